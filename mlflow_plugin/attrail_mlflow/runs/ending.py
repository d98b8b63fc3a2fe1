"""How a run ends: marked finished or failed, or still running where its process was killed."""

import contextlib
import logging
from collections.abc import Callable, Iterator

from mlflow.entities import RunStatus

from attrail_explainers.errors import RegistryError
from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.retries import patiently

logger = logging.getLogger("attrail.runs")


@contextlib.contextmanager
def finishing(registry: Registry, run_id: str) -> Iterator[None]:
    """Mark a run FINISHED when the block ends, FAILED when it raises; killed, it stays RUNNING.

    What is complete in it counts in any case: where MLflow cannot be told, a warning says so.
    """

    def mark(status: str) -> None:
        with asking(f"run {run_id} could not be marked {status.lower()}"):
            registry.client.set_terminated(run_id, status)

    try:
        yield
    except BaseException:
        _or_warn(lambda: mark(RunStatus.to_string(RunStatus.FAILED)))
        raise
    _or_warn(lambda: patiently(lambda: mark(RunStatus.to_string(RunStatus.FINISHED))))


def _or_warn(mark: Callable[[], None]) -> None:
    try:
        mark()
    except RegistryError as error:
        logger.warning("%s", error)
