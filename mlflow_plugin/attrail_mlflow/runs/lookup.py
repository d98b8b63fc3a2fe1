"""Kept runs found again: the newest complete one with a tag, its files, the state of a sequence of audits in it."""

from pathlib import Path
from typing import Any

from mlflow.artifacts import download_artifacts, load_dict
from mlflow.entities import Run

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.experiments import find_experiment
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.searching import newest_complete_run, runs_with
from attrail_mlflow.registry.tags import COMPLETE_TAG, MODEL_TAG, SEQUENCE_TAG, VERDICT_TAG
from attrail_mlflow.runs.audit_run import ROOT

SEQUENCE = "sequence.json"
PAGE = 200  # runs that are asked for at once


def newest_complete(registry: Registry, experiment: str, tag: str, value: str) -> Run | None:
    """The newest complete run with a tag in the experiment of a name, None when there is none.

    Raises what ``find_experiment`` raises.
    """
    found = find_experiment(registry.client, experiment)
    return newest_complete_run(registry.client, found.experiment_id, tag, value) if found is not None else None


def verdicts_against(registry: Registry, experiment: str, model: str, reference: str) -> dict[str, tuple[str, str]]:
    """By candidate, the newest verdict of an audit against a ``reference`` and its run id; both are ``models:/`` URIs.

    Audits of candidates of the ``model`` alone. Raises what ``newest_complete`` raises.
    """
    found = find_experiment(registry.client, experiment)
    if found is None:
        return {}
    verdicts: dict[str, tuple[str, str]] = {}
    complete = {MODEL_TAG: model, COMPLETE_TAG: "true"}
    for run in runs_with(registry.client, found.experiment_id, complete, page=PAGE):
        if run.data.params.get("reference") == reference:
            candidate, verdict = run.data.params.get("candidate", ""), run.data.tags.get(VERDICT_TAG, "")
            verdicts.setdefault(candidate, (verdict, run.info.run_id))
    return verdicts


def find_sequence(registry: Registry, experiment: str, name: str) -> tuple[str, dict[str, Any]] | None:
    """Run id and contents of the newest state of a sequence, None when it has not begun.

    Raises RegistryError when MLflow cannot be asked.
    """
    with asking(f"sequence {name!r} cannot be looked up in MLflow"):
        run = newest_complete(registry, experiment, SEQUENCE_TAG, name)
        return (run.info.run_id, load_dict(f"runs:/{run.info.run_id}/{ROOT}/{SEQUENCE}")) if run else None


def fetch_run(registry: Registry, run_id: str, folder: Path) -> Path:
    """Write a run's audit files below ``folder`` and return where they are.

    Raises RegistryError when MLflow has no such run or cannot be reached, EvidenceError when its audit did not finish.
    """
    with asking(f"run {run_id} cannot be read from MLflow at {registry.shown}"):
        run = registry.client.get_run(run_id)
        if run.data.tags.get(COMPLETE_TAG) != "true":
            raise EvidenceError(f"run {run_id} holds no finished audit: its tag {COMPLETE_TAG} is not true")
        return Path(download_artifacts(run_id=run_id, artifact_path=ROOT, dst_path=str(folder)))
