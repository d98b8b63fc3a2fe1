"""Engines: the same shards on threads, on processes, on Ray or on Dask. Which one is no fact about the maps."""

import contextvars
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from attrail_flows.configuration import RunSection
from attrail_flows.retries import DELAYS, RETRIES, may_help
from attrail_flows.runners import RUNNERS, Load, chosen, claiming, require_gpus, workers
from attrail_flows.shard_work import Work, compute
from attrail_mlflow.attribution_store import Entry

AHEAD = 2  # shards handed out per worker: one is computed, one waits, so memory holds no more than these


@task(
    name="explain shard",
    task_run_name="shard-{work.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
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
        self._running: dict[str, TaskRunner[Any]] = {}

    def __enter__(self) -> "Engine":
        self._context = contextvars.copy_context()
        return self

    def __exit__(self, *error: object) -> None:
        self._running = {}
        self._stack.close()

    def compute(self, works: Iterable[Work], load: Load | None = None) -> Iterator[tuple[Work, list[Entry]]]:
        """Every work with what was kept of it, in order; as many are under way as keep the workers busy.

        ``load`` is all of it together, by which "auto" chooses.
        """
        section = chosen(self.section, load or Load(), started="processes" in self._running)
        waiting: deque[tuple[Work, PrefectFuture[list[Entry]]]] = deque()
        for work in works:
            if len(waiting) == AHEAD * workers(section):
                yield _done(*waiting.popleft())
            waiting.append((work, self._submitted(work, section)))
        while waiting:
            yield _done(*waiting.popleft())

    def _submitted(self, work: Work, section: RunSection) -> PrefectFuture[list[Entry]]:
        runner = self._started(section)
        return self._context.run(lambda: _claimed(runner, section, work))

    def _started(self, section: RunSection) -> TaskRunner[Any]:
        if section.runner not in self._running:
            runner = self._stack.enter_context(RUNNERS[section.runner](section))
            require_gpus(section, runner)
            self._running[section.runner] = runner
        return self._running[section.runner]


def _claimed(runner: TaskRunner[Any], section: RunSection, work: Work) -> PrefectFuture[list[Entry]]:
    with claiming(section):
        future: PrefectFuture[list[Entry]] = runner.submit(explain_shard, {"work": work})
    return future


def _done(work: Work, future: PrefectFuture[list[Entry]]) -> tuple[Work, list[Entry]]:
    return work, future.result()
