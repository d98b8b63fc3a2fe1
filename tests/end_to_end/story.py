"""The whole thing for real: a version is registered over HTTP, and everything that follows is seen to happen.

Run by ``make end-to-end``; what it prints is the log of it. Every test goes on from where the one before it ended.
"""

import os
import time
from collections.abc import Iterator, Sequence
from itertools import pairwise

import mlflow
import pytest
import torch
from camera import Camera, artifacts, report, sign_off_form
from flow_runs import PATIENCE, await_state, begin, runs, spans
from services import IMAGES, Services

from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import read_journal
from attrail_mlflow.journal.location import store_at
from attrail_mlflow.registry.tags import STATEMENT_TAG
from attrail_mlflow.signing.envelope import read_envelope
from attrail_mlflow.signing.keys import key_id, read_public
from attrail_mlflow.signing.trusted_keys import read_trusted_keys
from attrail_mlflow.statements.statement import statement_from
from attrail_mlflow.statements.verdict import VerdictStatement
from digits import Scans
from train import log_version

pytestmark = pytest.mark.timeout(600)
WHY = "read the report: maps did not move"


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[mlflow.MlflowClient]:
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(services.mlflow)
    mlflow.set_experiment("training")
    yield mlflow.MlflowClient(services.mlflow)
    mlflow.set_tracking_uri(before)


@pytest.fixture(scope="module")
def camera(services: Services, request: pytest.FixtureRequest) -> Camera:
    return Camera(services, request.config.getoption("--pictures"))


def stated(client: mlflow.MlflowClient, version: str) -> VerdictStatement | None:
    """The signed statement of an audit that a version carries."""
    envelope = client.get_model_version("digits", version).tags.get(STATEMENT_TAG)
    if envelope is None:
        return None
    found = statement_from(read_envelope(envelope.encode()).payload)
    assert isinstance(found, VerdictStatement)
    return found


def await_verdict(services: Services, client: mlflow.MlflowClient, version: str) -> VerdictStatement:
    deadline = time.monotonic() + PATIENCE
    while (found := stated(client, version)) is None:
        log = (services.folder / "worker.log").read_text()[-4000:]
        bad = [each for each in runs(services, "attrail-audit") if each["state_type"] in ("FAILED", "CRASHED")]
        assert not bad, (bad[0]["name"], bad[0]["state"]["message"], log)
        assert time.monotonic() < deadline, log
        time.sleep(1)
    return found


def holder(client: mlflow.MlflowClient) -> str:
    return str(client.get_model_version_by_alias("digits", "champion").version)


def test_the_first_champion_needs_evidence_or_a_waiver(
    services: Services, client: mlflow.MlflowClient, models: Sequence[torch.nn.Module], scans: Scans
) -> None:
    for number, model in enumerate(models[:6], start=1):
        assert log_version(model, scans[IMAGES])[0] == str(number)
    services.say("registered digits/1 and its retrains 2 to 6 over HTTP")
    assert "[missing]" in services.run("gate", "models:/digits/1", status=3)
    risk = {"ATTRAIL_SIGNING_KEY": str(services.folder / "risk"), "ATTRAIL_JOURNAL": ""}
    services.run("waive", "models:/digits/1", "--reason", "the first of its kind", "--by", "Ada Risk", **risk)
    services.run("gate", "models:/digits/1")
    assert holder(client) == "1"


def test_a_version_that_is_registered_is_audited(
    services: Services, client: mlflow.MlflowClient, models: Sequence[torch.nn.Module], scans: Scans, camera: Camera
) -> None:
    address = f"http://127.0.0.1:{services.ports['receiver']}/mlflow"
    client.create_webhook("attrail", address, ["model_version.created"], secret=services.passwords["hook"])
    for number, model in enumerate(models[6:], start=7):
        assert log_version(model, scans[IMAGES])[0] == str(number)
    services.say("registered digits/7, an honest retrain, and digits/8, which looks at the stamp")
    found = {version: await_verdict(services, client, version) for version in ("7", "8")}
    verdicts = {version: str(each.verdict) for version, each in found.items()}
    services.say(f"webhook, audit, verdict: {verdicts}")
    assert verdicts == {"7": "PASS", "8": "DRIFT"}
    audits = runs(services, "attrail-audit")
    assert len(audits) == 2, "each version is audited once"
    camera.take("audit", artifacts(audits[-1]["id"]))
    camera.take("report", report(client.get_run(found["8"].run_id)))


def test_what_drifted_is_refused(services: Services, client: mlflow.MlflowClient) -> None:
    assert "[verdict-drift]" in services.run("gate", "models:/digits/8", status=1)
    for alias, reason in (("champion", "verdict-drift"), ("Champion", "misspelt")):
        with pytest.raises(mlflow.MlflowException, match=reason):
            client.set_registered_model_alias("digits", alias, "8")
    assert holder(client) == "1"


def test_what_passed_is_promoted_once_somebody_signed_off(
    services: Services, client: mlflow.MlflowClient, camera: Camera
) -> None:
    """Signed off at once, while the process that asked may still be ending; another promotion waits all the while."""
    waiting = begin(services, "attrail-promote/with-sign-off", candidate="8")
    wanted = begin(services, "attrail-promote/with-sign-off", candidate="7")
    await_state(services, waiting, "PAUSED")
    services.say("the promotion of digits/8 waits for a person")
    camera.take("sign-off", sign_off_form(waiting, "May digits/8 become champion?"))
    await_state(services, wanted, "PAUSED")
    services.say("the promotion of digits/7 waits for a person, too: the other's holds up nobody")
    assert holder(client) == "1"
    services.run("signoff", wanted, "--approve", "--by", "Ada Risk", "--why", WHY)
    assert await_state(services, wanted, "COMPLETED")["name"] == "Promoted"
    assert holder(client) == "7"
    services.say("digits/7 is champion")
    services.run("signoff", waiting, "--reject", "--by", "Ada Risk", "--why", "the maps are on the stamp")
    found = await_state(services, waiting, "FAILED")
    assert found["name"] == "Rejected", found["message"]
    services.say(f"the promotion of digits/8 has ended: {found['message']}")
    assert holder(client) == "7"


def test_one_worker_did_it_all_one_after_the_other(services: Services) -> None:
    assert services.running["worker"].poll() is None
    assert "Traceback" not in (services.folder / "worker.log").read_text()
    audits = [each["id"] for each in runs(services, "attrail-audit") if each["parent_task_run_id"] is None]
    promotions = [each["id"] for each in runs(services, "attrail-promote")]
    assert (len(audits), len(promotions)) == (2, 2)
    found = sorted(span for run in audits + promotions for span in spans(services, run))
    assert len(found) == 6, "two audits, and two promotions that were at work before and after the sign-off"
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    services.say("two audits and two promotions, never two at a time")


def test_both_journals_are_whole_and_say_who_decided(services: Services) -> None:
    trust = services.folder / "policy/gate.toml"
    database = f"postgresql://mlflow@127.0.0.1:{services.ports['postgres']}/mlflow"
    words = ("--trust", str(trust))
    assert "nothing is wrong" in services.run("verify", database, *words, PGPASSWORD=services.passwords["mlflow"])
    journal = services.folder / "journal/audits.jsonl"
    assert "nothing is wrong" in services.run("verify", str(journal), *words)
    records = list(read_journal(store_at(str(journal)), read_trusted_keys(trust)))
    decided = [each for each in records if each.event == Event.SIGN_OFF]
    assert [(each.body["decision"], each.body["by"]) for each in decided] == [
        ("approve", "Ada Risk"),
        ("reject", "Ada Risk"),
    ]
    assert decided[0].body["why"] == WHY
    key = key_id(read_public((services.folder / "policy/keys/audit.pub").read_bytes(), "audit.pub"))
    assert {each.signature["keyid"] for each in decided if each.signature} == {key}
    services.say("the two decisions are in the journal, signed with the worker's key")
    services.run("reconcile", "--policy", str(trust))


def test_nothing_is_wrong_by_the_doctor_and_deployed_twice_is_as_once(services: Services) -> None:
    assert "the gate is on" in services.run("doctor")
    said = services.run("deploy", "--config", str(services.folder / "policy/attrail.toml"), user="deployments")
    assert said.count("unchanged") == 7, "the work pool, the automation and five deployments"


def test_who_stole_the_database_is_found_out(services: Services, client: mlflow.MlflowClient) -> None:
    """The gate cannot stop it; reconciliation says it, and so do the journals."""
    from sqlalchemy import create_engine, text

    os.environ["PGPASSWORD"] = services.passwords["mlflow"]
    try:
        engine = create_engine(f"postgresql://mlflow@127.0.0.1:{services.ports['postgres']}/mlflow")
        with engine.begin() as connection:
            connection.execute(text("UPDATE registered_model_aliases SET version = 8 WHERE alias = 'champion'"))
    finally:
        del os.environ["PGPASSWORD"]
    assert holder(client) == "8"
    assert "DOUBTFUL" in services.run("reconcile", "--policy", str(services.folder / "policy/gate.toml"), status=3)
    services.say("an alias that was moved in the database is reported")
