"""A kept run: an audit's files, fetched from MLflow to be exported or inspected."""

from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.registry.errors import registry_error
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.tags import COMPLETE_TAG
from attrail_mlflow.runs.audit_run import ROOT


def fetch_run(registry: Registry, run_id: str, folder: Path) -> Path:
    """Write a run's audit files below ``folder`` and return where they are.

    Raises RegistryError when MLflow has no such run or cannot be reached, EvidenceError when its audit did not finish.
    """
    try:
        run = registry.client.get_run(run_id)
        if run.data.tags.get(COMPLETE_TAG) != "true":
            raise EvidenceError(f"run {run_id} holds no finished audit: its tag {COMPLETE_TAG} is not true")
        return Path(download_artifacts(run_id=run_id, artifact_path=ROOT, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise registry_error(f"run {run_id} cannot be read from MLflow at {registry.shown}", error) from error
