"""Shards without Prefect, one after the other in this thread: for commands that are no flows."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from attrail_explainers.runtime.torch_threads import one_torch_thread
from attrail_explainers.slice import Slice
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained
from attrail_flows.engine.model_pool import POOL
from attrail_flows.engine.session import ExplainSession
from attrail_flows.engine.task_runners import Load
from attrail_flows.engine.worker import Question, Reply, Work, answer, compute
from attrail_flows.flow_runs.progress import progress_of
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.runs.attribution_store import Entry
from attrail_mlflow.signing.keyless_process import another_process, must_be_apart


class InTurn:
    """The plainest engine."""

    def ask(self, question: Question[Reply]) -> Reply:
        """The reply to a question about a model."""
        return answer(question)

    def compute(self, works: Iterable[Work], load: Load | None = None) -> Iterator[tuple[Work, list[Entry]]]:
        """Every work with what was kept of it, in order."""
        for work in works:
            yield work, compute(work)


@dataclass(frozen=True)
class InAnotherProcess:
    """A serial engine in a process of its own that loads the models, where this one must not."""

    process: Executor

    def ask(self, question: Question[Reply]) -> Reply:
        """The reply to a question about a model."""
        return self.process.submit(answer, question).result()

    def compute(self, works: Iterable[Work], load: Load | None = None) -> Iterator[tuple[Work, list[Entry]]]:
        """Every work with what was kept of it, in order."""
        for work in works:
            yield work, self.process.submit(compute, work).result()


@contextlib.contextmanager
def explaining_in_turn(registry: Registry, config: AuditConfig, folder: Path | None = None) -> Iterator[ExplainSession]:
    """What versions are explained with for the time of a block; the same bytes as every flow's.

    Results are kept in MLflow, unless there is a ``folder`` for them to pass through.
    """
    name = str(uuid4())
    if must_be_apart(allow_pickle=config.policy.allow_pickle):
        with another_process() as process:
            yield ExplainSession(registry, config, InAnotherProcess(process), name, folder=folder)
        return
    try:
        with one_torch_thread():
            yield ExplainSession(registry, config, InTurn(), name, folder=folder)
    finally:
        POOL.forget(name)


def explained_alone(
    config: AuditConfig, registry: Registry, version: RegisteredVersion, slices: Sequence[Slice]
) -> tuple[tuple[Slice, ...], Explained]:
    """The slices with a row for each question, and one version's evidence on them; nothing is kept in MLflow."""
    with (
        tempfile.TemporaryDirectory(prefix="attrail-") as folder,
        explaining_in_turn(registry, config, Path(folder)) as session,
    ):
        asking = session.asking(version, slices)
        maps = sum(len(each) for each in asking) * len(config.explainers)
        with progress_of(f"explain {version.label}", maps) as advance:
            return asking, session.explain(version, asking, None, advance)
