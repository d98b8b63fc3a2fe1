"""Where a sequence's state is: in the newest complete audit run of its name."""

from typing import Any

from mlflow.exceptions import MlflowException

from attrail_explainers.errors import RegistryError
from attrail_mlflow.audit_run import COMPLETE, ROOT, SEQUENCE_TAG
from attrail_mlflow.registry import Registry

FILE = "sequence.json"


def find_sequence(registry: Registry, experiment: str, name: str) -> tuple[str, dict[str, Any]] | None:
    """Run id and contents of the newest state of a sequence, None when it has not begun."""
    from mlflow.artifacts import load_dict  # noqa: PLC0415 - it loads pandas

    try:
        found = registry.client.get_experiment_by_name(experiment)
        if found is None:
            return None
        wanted = f"tags.`{SEQUENCE_TAG}` = '{name}' and tags.`{COMPLETE}` = 'true'"
        newest = ["attributes.start_time DESC"]
        runs = registry.client.search_runs([found.experiment_id], wanted, order_by=newest, max_results=1)
        return (runs[0].info.run_id, load_dict(f"runs:/{runs[0].info.run_id}/{ROOT}/{FILE}")) if runs else None
    except MlflowException as error:
        raise RegistryError(f"sequence {name!r} cannot be looked up in MLflow: {error}", transient=True) from error
