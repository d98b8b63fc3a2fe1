"""Entry point ``mlflow.run_context_provider``: tags that say under what a run was started.

MLflow imports this module whenever it is imported, and asks it at every ``mlflow.start_run``; so it imports nothing
itself. The tags are for finding runs; anybody can set them, and nothing is decided on them.
"""

import contextlib
import os
from collections.abc import Iterator
from contextvars import ContextVar

FLOW_RUN = "attrail.flow_run_id"
POLICY = "attrail.policy_digest"
CODE = "attrail.version"
PREFECT_VARIABLE = "PREFECT__FLOW_RUN_ID"  # set by Prefect in the processes it starts for a flow run

_NOTED: ContextVar[dict[str, str] | None] = ContextVar("attrail_run_context", default=None)


class RunContext:
    """MLflow's run context: silent outside of attrail's flows and Prefect's."""

    def in_context(self) -> bool:
        return bool(run_tags())

    def tags(self) -> dict[str, str]:
        return run_tags()


@contextlib.contextmanager
def noting(tags: dict[str, str]) -> Iterator[None]:
    """Give the runs that are started in the block these tags."""
    token = _NOTED.set((_NOTED.get() or {}) | tags)
    try:
        yield
    finally:
        _NOTED.reset(token)


def run_tags() -> dict[str, str]:
    """The tags of a run that is started here and now; none outside of a flow."""
    found = dict(_NOTED.get() or {})
    if PREFECT_VARIABLE in os.environ:
        found.setdefault(FLOW_RUN, os.environ[PREFECT_VARIABLE])
    return found | {CODE: _version()} if found else {}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see above

    try:
        return version("attrail")
    except PackageNotFoundError:
        return "not installed as a distribution"
