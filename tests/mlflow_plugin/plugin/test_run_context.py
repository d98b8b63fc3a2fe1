"""Tags of runs: there where Prefect is at work, and nowhere else."""

from importlib.metadata import version

import mlflow
import pytest

from attrail_mlflow.plugin.run_context import PREFECT_VARIABLE, RunContext
from attrail_mlflow.registry.tags import FLOW_RUN_ID_TAG, VERSION_TAG


def test_other_peoples_runs_are_left_alone() -> None:
    assert not RunContext().in_context()
    assert RunContext().tags() == {}


def test_mlflow_asks_it_in_a_flow_run_that_prefect_started(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(PREFECT_VARIABLE, "from Prefect")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        with mlflow.start_run(experiment_id=mlflow.create_experiment("here")) as run:
            pass
        tags = mlflow.get_run(run.info.run_id).data.tags
        assert (tags[FLOW_RUN_ID_TAG], tags[VERSION_TAG]) == ("from Prefect", version("attrail"))
    finally:
        mlflow.set_tracking_uri(before)
