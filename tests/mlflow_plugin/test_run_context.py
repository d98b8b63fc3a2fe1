"""Tags of runs: there where attrail or Prefect is at work, and nowhere else."""

from importlib.metadata import version

import mlflow
import pytest

from attrail_mlflow.plugin.run_context import CODE, FLOW_RUN, POLICY, PREFECT_VARIABLE, RunContext, noting


def test_other_peoples_runs_are_left_alone() -> None:
    assert not RunContext().in_context()
    assert RunContext().tags() == {}


def test_what_is_noted_is_noted_until_the_block_ends() -> None:
    with noting({POLICY: "sha256:1"}), noting({FLOW_RUN: "f"}):
        assert RunContext().tags() == {POLICY: "sha256:1", FLOW_RUN: "f", CODE: version("attrail")}
    assert not RunContext().in_context()


def test_a_flow_run_that_prefect_started_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFECT_VARIABLE, "from Prefect")
    assert RunContext().tags()[FLOW_RUN] == "from Prefect"
    with noting({FLOW_RUN: "noted"}):
        assert RunContext().tags()[FLOW_RUN] == "noted"


def test_mlflow_asks_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    try:
        with noting({POLICY: "sha256:1"}), mlflow.start_run(experiment_id=mlflow.create_experiment("here")) as run:
            pass
        assert mlflow.get_run(run.info.run_id).data.tags[POLICY] == "sha256:1"
    finally:
        mlflow.set_tracking_uri(before)
