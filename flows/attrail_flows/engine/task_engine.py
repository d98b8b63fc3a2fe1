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
from prefect.tasks import Task

from attrail_flows.engine.task_runners import RUNNERS, Load, apart_from_here, chosen, claiming, require_gpus, workers
from attrail_flows.engine.worker import Question, Reply, Work, answer, compute
from attrail_flows.flow_runs.retries import DELAYS, RETRIES, may_help
from attrail_flows.sections import RunSection
from attrail_mlflow.runs.attribution_store import Entry

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


@task(
    name="look at model",
    task_run_name="look-at-{question.model.label}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=may_help,
)
def look_at_model(question: Question[Reply]) -> Reply:
    """Load a model on whatever worker this is, and reply to a question about it."""
    return answer(question)


class Engine:
    """Workers for the time of a block; they start with the first shard, if there is any.

    Shards are tasks of the flow's run in which the block begins, not of the task that waits for them: Prefect sends the
    context of a task to every worker, its parameters included, and those may be images and models. With ``apart`` no
    model is loaded in this process.
    """

    def __init__(self, section: RunSection, *, apart: bool = False) -> None:
        self.section = apart_from_here(section) if apart else section
        self.apart = apart
        self._stack = ExitStack()
        self._context = contextvars.copy_context()
        self._running: dict[str, TaskRunner[Any]] = {}

    def __enter__(self) -> "Engine":
        self._context = contextvars.copy_context()
        return self

    def __exit__(self, *error: object) -> None:
        self._running = {}
        self._stack.close()

    def ask(self, question: Question[Reply]) -> Reply:
        """The reply to a question about a model: looked at here, or by a worker."""
        if not self.apart:
            return answer(question)
        found: Reply = self.submit(look_at_model, question=question).result()
        return found

    def submit(self, task_: Task[..., Any], **parameters: Any) -> PrefectFuture[Any]:
        """A task on a worker, as one of the flow's run in which the block began."""
        return self._begun(self.section, task_, parameters)

    def compute(self, works: Iterable[Work], load: Load | None = None) -> Iterator[tuple[Work, list[Entry]]]:
        """Every work with what was kept of it, in order; as many are under way as keep the workers busy.

        ``load`` is all of it together, by which "auto" chooses.
        """
        section = chosen(self.section, load or Load(), started="processes" in self._running)
        waiting: deque[tuple[Work, PrefectFuture[list[Entry]]]] = deque()
        for work in works:
            if len(waiting) == AHEAD * workers(section):
                yield _done(*waiting.popleft())
            waiting.append((work, self._begun(section, explain_shard, {"work": work})))
        while waiting:
            yield _done(*waiting.popleft())

    def _begun(self, section: RunSection, task_: Task[..., Any], parameters: dict[str, Any]) -> PrefectFuture[Any]:
        runner = self._started(section)
        return self._context.run(lambda: _claimed(runner, section, task_, parameters))

    def _started(self, section: RunSection) -> TaskRunner[Any]:
        if section.runner not in self._running:
            runner = self._stack.enter_context(RUNNERS[section.runner](section))
            require_gpus(section, runner)
            self._running[section.runner] = runner
        return self._running[section.runner]


def _claimed(
    runner: TaskRunner[Any], section: RunSection, task_: Task[..., Any], parameters: dict[str, Any]
) -> PrefectFuture[Any]:
    with claiming(section):
        future: PrefectFuture[Any] = runner.submit(task_, parameters)
    return future


def _done(work: Work, future: PrefectFuture[list[Entry]]) -> tuple[Work, list[Entry]]:
    return work, future.result()
