"""Engines: the same shards on threads, on processes, on Ray or on Dask. Which one is no fact about the maps."""

import contextvars
import importlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from attrail_explainers.errors import ConfigError
from attrail_flows.configuration import RunSection
from attrail_flows.retries import DELAYS, may_help
from attrail_flows.shard_work import Work, compute
from attrail_mlflow.attribution_store import Entry

AHEAD = 2  # shards handed out per worker: one is computed, one waits, so memory holds no more than these


@task(
    name="explain shard",
    task_run_name="shard-{work.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=2,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=may_help,
)
def explain_shard(work: Work) -> list[Entry]:
    """Compute one shard on whatever worker this is, and keep it in MLflow."""
    return compute(work)


class Engine:
    """Workers for the time of a block; they start with the first shard, if there is any.

    Shards are tasks of the flow's run in which the block begins, not of the task that waits for them: Prefect sends the
    context of a task to every worker, its parameters included, and those may be images and models.
    """

    def __init__(self, section: RunSection) -> None:
        self.section = section
        self._stack = ExitStack()
        self._context = contextvars.copy_context()
        self._runner: TaskRunner[Any] | None = None

    def __enter__(self) -> "Engine":
        self._context = contextvars.copy_context()
        return self

    def __exit__(self, *error: object) -> None:
        self._runner = None
        self._stack.close()

    def compute(self, works: Iterable[Work]) -> Iterator[tuple[Work, list[Entry]]]:
        """Every work with what was kept of it, in order; as many are under way as keep the workers busy."""
        waiting: deque[tuple[Work, PrefectFuture[list[Entry]]]] = deque()
        for work in works:
            if len(waiting) == AHEAD * workers(self.section):
                yield _done(*waiting.popleft())
            waiting.append((work, self._submitted(work)))
        while waiting:
            yield _done(*waiting.popleft())

    def _submitted(self, work: Work) -> PrefectFuture[list[Entry]]:
        runner = self._started()
        return self._context.run(lambda: runner.submit(explain_shard, {"work": work}))

    def _started(self) -> TaskRunner[Any]:
        if self._runner is None:
            self._runner = self._stack.enter_context(RUNNERS[self.section.runner](self.section))
        return self._runner


def workers(section: RunSection) -> int:
    """The configured number of workers, else one thread, or one process for each processor that this one may use.

    Every worker computes in one thread with a model of its own, and threads of one process hold each other up.
    """
    if section.workers:
        return section.workers
    if section.runner == "threads":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _done(work: Work, future: PrefectFuture[list[Entry]]) -> tuple[Work, list[Entry]]:
    return work, future.result()


def _threads(section: RunSection) -> TaskRunner[Any]:
    return ThreadPoolTaskRunner(max_workers=workers(section))


def _processes(section: RunSection) -> TaskRunner[Any]:
    return ProcessPoolTaskRunner(max_workers=workers(section))


def _ray(section: RunSection) -> TaskRunner[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {"num_cpus": workers(section), "include_dashboard": False, "log_to_driver": False}
    return _cluster("ray", "RayTaskRunner", section, init_kwargs=local)


def _dask(section: RunSection) -> TaskRunner[Any]:
    local = {"n_workers": workers(section), "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    return _cluster("dask", "DaskTaskRunner", section, cluster_kwargs=local)


def _cluster(extra: str, name: str, section: RunSection, **local: Any) -> TaskRunner[Any]:
    """The task runner of an optional package, at the configured address or with a cluster of its own."""
    try:
        make = getattr(importlib.import_module(f"prefect_{extra}"), name)
    except ImportError as error:
        raise ConfigError(f'run.runner = "{extra}" needs more packages: {error}; install attrail[{extra}]') from error
    runner: TaskRunner[Any] = make(address=section.address) if section.address else make(**local)
    return runner


RUNNERS: dict[str, Callable[[RunSection], TaskRunner[Any]]] = {
    "threads": _threads,
    "processes": _processes,
    "ray": _ray,
    "dask": _dask,
}
