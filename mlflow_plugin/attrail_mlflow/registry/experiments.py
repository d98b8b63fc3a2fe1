"""The experiment that holds attrail's runs."""

from mlflow import MlflowClient
from mlflow.entities import Experiment, LifecycleStage
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode

from attrail_explainers.errors import RegistryError

THERE_ALREADY = ErrorCode.Name(RESOURCE_ALREADY_EXISTS)


def find_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """The experiment of a name, None when there is none yet.

    Raises RegistryError when somebody deleted it, MlflowException when MLflow cannot be asked.
    """
    found = client.get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == LifecycleStage.DELETED:
        raise RegistryError(
            f"experiment {name} is deleted: restore it (mlflow experiments restore --experiment-id "
            f"{found.experiment_id}) or set registry.experiment to another name"
        )
    return found


def experiment_id(client: MlflowClient, name: str) -> str:
    """The id of the experiment of a name, which is made when there is none; raises what ``find_experiment`` raises."""
    found = find_experiment(client, name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name))
    except MlflowException as error:
        found = find_experiment(client, name) if error.error_code == THERE_ALREADY else None
        if found is None:
            raise
        return str(found.experiment_id)  # another process made it meanwhile
