"""Entry point ``mlflow.run_context_provider``: tags that say in which flow run a run was started.

MLflow imports this module whenever it is imported, and asks it at every ``mlflow.start_run``; so it imports no library.
The tags are for finding runs; anybody can set them, and nothing is decided on them.
"""

import os

from attrail_mlflow.registry.tags import FLOW_RUN_ID_TAG, VERSION_TAG

PREFECT_VARIABLE = "PREFECT__FLOW_RUN_ID"  # set by Prefect in the processes it starts for a flow run


class RunContext:
    """MLflow's run context: silent outside of Prefect's flows."""

    def in_context(self) -> bool:
        """Whether this process works for a flow run of Prefect's."""
        return PREFECT_VARIABLE in os.environ

    def tags(self) -> dict[str, str]:
        """The flow run's id and attrail's version as tags, none outside of a flow run."""
        return {FLOW_RUN_ID_TAG: os.environ[PREFECT_VARIABLE], VERSION_TAG: _version()} if self.in_context() else {}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see above

    try:
        return version("attrail")
    except PackageNotFoundError:
        return "not installed as a distribution"
