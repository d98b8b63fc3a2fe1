"""Where a sequence's state is: in the newest complete audit run of its name."""

from typing import Any

from mlflow.exceptions import MlflowException

from attrail_mlflow.registry.errors import registry_error
from attrail_mlflow.registry.experiments import find_experiment
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.searching import newest_run
from attrail_mlflow.registry.tags import COMPLETE_TAG, SEQUENCE_TAG
from attrail_mlflow.runs.audit_run import ROOT

FILE = "sequence.json"


def find_sequence(registry: Registry, experiment: str, name: str) -> tuple[str, dict[str, Any]] | None:
    """Run id and contents of the newest state of a sequence, None when it has not begun."""
    from mlflow.artifacts import load_dict  # noqa: PLC0415 - it loads pandas

    try:
        found = find_experiment(registry.client, experiment)
        if found is None:
            return None
        run = newest_run(registry.client, found.experiment_id, {SEQUENCE_TAG: name, COMPLETE_TAG: "true"})
        return (run.info.run_id, load_dict(f"runs:/{run.info.run_id}/{ROOT}/{FILE}")) if run else None
    except MlflowException as error:
        raise registry_error(f"sequence {name!r} cannot be looked up in MLflow", error) from error
