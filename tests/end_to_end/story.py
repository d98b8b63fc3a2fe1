"""The whole thing for real: a version is registered over HTTP, and everything that follows is seen to happen.

Run by ``make end-to-end``; what it prints is the log of it. Every test goes on from where the one before it ended.
"""

import json
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import mlflow
import pytest
import torch
from stage import IMAGES, Stage

from attrail_mlflow.envelope import read_envelope
from attrail_mlflow.evidence_tags import STATEMENT
from attrail_mlflow.statement import statement_from
from digits import Scans
from train import log_version

pytestmark = pytest.mark.timeout(600)
PATIENCE = 300.0  # seconds until a flow's run must be where it is waited for


@pytest.fixture(scope="module")
def client(stage: Stage) -> Iterator[mlflow.MlflowClient]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(stage.mlflow)
    mlflow.set_experiment("training")
    yield mlflow.MlflowClient(stage.mlflow)
    mlflow.set_tracking_uri(before)


def runs(stage: Stage, flow: str) -> list[dict[str, Any]]:
    """The runs of a flow, as Prefect's server has them."""
    asked = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_DESC"}
    return list(httpx.post(f"{stage.prefect}/flow_runs/filter", json=asked, timeout=30).json())


def verdict(client: mlflow.MlflowClient, version: str) -> str | None:
    """The verdict of the signed statement that a version carries."""
    envelope = client.get_model_version("digits", version).tags.get(STATEMENT)
    return None if envelope is None else str(statement_from(read_envelope(envelope.encode()).payload).verdict)


def await_verdict(stage: Stage, client: mlflow.MlflowClient, version: str) -> str:
    deadline = time.monotonic() + PATIENCE
    while (found := verdict(client, version)) is None:
        bad = [each for each in runs(stage, "attrail-audit") if each["state_type"] in ("FAILED", "CRASHED")]
        assert not bad, (bad[0]["name"], bad[0]["state"]["message"], (stage.folder / "worker.log").read_text()[-4000:])
        assert time.monotonic() < deadline, (stage.folder / "worker.log").read_text()[-4000:]
        time.sleep(1)
    return found


def holder(client: mlflow.MlflowClient) -> str:
    return str(client.get_model_version_by_alias("digits", "champion").version)


def test_the_first_champion_needs_evidence_or_a_waiver(
    stage: Stage, client: mlflow.MlflowClient, models: Sequence[torch.nn.Module], scans: Scans
) -> None:
    for number, model in enumerate(models[:6], start=1):
        assert log_version(model, scans[IMAGES])[0] == str(number)
    stage.say("registered digits/1 and its retrains 2 to 6 over HTTP")
    assert "[missing]" in stage.run("gate", "models:/digits/1", status=3)
    risk = {"ATTRAIL_SIGNING_KEY": str(stage.folder / "risk"), "ATTRAIL_JOURNAL": ""}
    stage.run("waive", "models:/digits/1", "--reason", "the first of its kind", "--by", "Ada Risk", **risk)
    stage.run("gate", "models:/digits/1")
    assert holder(client) == "1"


def test_a_version_that_is_registered_is_audited(
    stage: Stage, client: mlflow.MlflowClient, models: Sequence[torch.nn.Module], scans: Scans
) -> None:
    address = f"http://127.0.0.1:{stage.ports['receiver']}/mlflow"
    client.create_webhook("attrail", address, ["model_version.created"], secret=stage.passwords["hook"])
    for number, model in enumerate(models[6:], start=7):
        assert log_version(model, scans[IMAGES])[0] == str(number)
    stage.say("registered digits/7, an honest retrain, and digits/8, which looks at the stamp")
    found = {version: await_verdict(stage, client, version) for version in ("7", "8")}
    stage.say(f"webhook, audit, verdict: {found}")
    assert found == {"7": "PASS", "8": "DRIFT"}
    assert len(runs(stage, "attrail-audit")) == 2, "each version is audited once"


def test_what_drifted_is_refused(stage: Stage, client: mlflow.MlflowClient) -> None:
    assert "[verdict-drift]" in stage.run("gate", "models:/digits/8", status=1)
    for alias, reason in (("champion", "verdict-drift"), ("Champion", "misspelt")):
        with pytest.raises(mlflow.MlflowException, match=reason):
            client.set_registered_model_alias("digits", alias, "8")
    assert holder(client) == "1"


def test_what_passed_is_promoted_once_somebody_signed_off(stage: Stage, client: mlflow.MlflowClient) -> None:
    deployment = httpx.get(f"{stage.prefect}/deployments/name/attrail-promote/with-sign-off", timeout=30).json()
    path = f"{stage.prefect}/deployments/{deployment['id']}/create_flow_run"
    config = deployment["parameters"]["config"]
    asked = {"parameters": {"config": config, "candidate": "7"}}
    run = httpx.post(path, json=asked, timeout=30).raise_for_status().json()["id"]
    await_state(stage, run, "PAUSED")
    stage.say("the promotion waits for a person")
    assert holder(client) == "1"
    stage.run("signoff", run, "--approve", "--by", "Ada Risk", "--why", "read the report: maps did not move")
    await_state(stage, run, "COMPLETED")
    assert holder(client) == "7"
    stage.say("digits/7 is champion")


def await_state(stage: Stage, run: str, wanted: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        state = httpx.get(f"{stage.prefect}/flow_runs/{run}", timeout=30).json()["state"]
        if state["type"] == wanted:
            return
        told = (state["type"], state["message"], (stage.folder / "worker.log").read_text()[-4000:])
        assert state["type"] not in ("FAILED", "CRASHED", "CANCELLED", "COMPLETED"), told
        assert time.monotonic() < deadline, told
        time.sleep(0.5)


def test_both_journals_are_whole_and_say_who_decided(stage: Stage) -> None:
    trust = ("--trust", str(stage.folder / "policy/gate.toml"))
    database = f"postgresql://mlflow@127.0.0.1:{stage.ports['postgres']}/mlflow"
    assert "nothing is wrong" in stage.run("verify", database, *trust, PGPASSWORD=stage.passwords["mlflow"])
    journal = stage.folder / "journal/audits.jsonl"
    assert "nothing is wrong" in stage.run("verify", str(journal), *trust)
    events = [json.loads(line) for line in journal.read_text().splitlines()]
    assert any("Ada Risk" in json.dumps(each) and "maps did not move" in json.dumps(each) for each in events)
    stage.run("reconcile", "--policy", str(stage.folder / "policy/gate.toml"))


def test_nothing_is_wrong_by_the_doctor_and_deployed_twice_is_as_once(stage: Stage) -> None:
    assert "the gate is on" in stage.run("doctor")
    said = stage.run("deploy", "--config", str(stage.folder / "policy/attrail.toml"), user="deployments")
    assert said.count("unchanged") == 5


def test_who_stole_the_database_is_found_out(stage: Stage, client: mlflow.MlflowClient) -> None:
    """The gate cannot stop it; reconciliation says it, and so do the journals."""
    from sqlalchemy import create_engine, text

    os.environ["PGPASSWORD"] = stage.passwords["mlflow"]
    try:
        engine = create_engine(f"postgresql://mlflow@127.0.0.1:{stage.ports['postgres']}/mlflow")
        with engine.begin() as connection:
            connection.execute(text("UPDATE registered_model_aliases SET version = 8 WHERE alias = 'champion'"))
    finally:
        del os.environ["PGPASSWORD"]
    assert holder(client) == "8"
    assert "DOUBTFUL" in stage.run("reconcile", "--policy", str(stage.folder / "policy/gate.toml"), status=3)
    stage.say("an alias that was moved in the database is reported")
