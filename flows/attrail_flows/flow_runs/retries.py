"""When a task that talks to MLflow is tried again."""

from typing import Any

from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task

from attrail_explainers.errors import RegistryError
from attrail_mlflow.registry.retries import WAITS

DELAYS = list(WAITS)  # seconds before the retries of a task that talks to MLflow
RETRIES = len(DELAYS)


def may_help(task_: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether trying again may help: only when the registry or the tracking server was the trouble."""
    try:
        state.result()
    except RegistryError as error:
        return error.transient
    except Exception:  # noqa: BLE001 - whatever else a task raises is a fact about its input and is raised to the caller
        return False
    return False
