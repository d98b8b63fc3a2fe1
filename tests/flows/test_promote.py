"""Promotion with sign-off: the form, the answer from the terminal, the gate after it, and the journal."""

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from attrail_flows.configuration import read_config
from attrail_flows.sign_off.form import SignOff, question
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import read_journal
from attrail_mlflow.journal.location import store_at
from attrail_mlflow.signing.keys import key_id, new_key, read_public
from attrail_mlflow.signing.trusted_keys import read_trusted_keys

Run = Callable[..., tuple[int, str, str]]
EXPLAINERS = '[[explainer]]\nname = "gradcam"'


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """A journal for this test; its records of sign-offs."""
    path = str(tmp_path / "journal.jsonl")
    monkeypatch.setenv("ATTRAIL_JOURNAL", path)
    monkeypatch.setenv("ATTRAIL_ACTOR", "the promotion flow")
    return lambda: [each for each in read_journal(store_at(path), None) if each.event == Event.SIGN_OFF]


class Answering(threading.Thread):
    """Waits until a promotion is paused, and answers it by the command line."""

    def __init__(self, attrail: Run, *answer: str) -> None:
        super().__init__()
        self.attrail, self.answer, self.said = attrail, answer, ("", "")
        self.form: dict[str, Any] = {}

    def run(self) -> None:
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.filters import FlowRunFilter

        with get_client(sync_client=True) as client:
            for _ in range(600):
                paused = FlowRunFilter(state={"type": {"any_": ["PAUSED"]}})
                found = client.read_flow_runs(flow_run_filter=paused)
                if found:
                    keyset = found[0].state.state_details.run_input_keyset
                    self.form["description"] = client.read_flow_run_input(found[0].id, keyset["description"])
                    self.name_ = found[0].name
                    _, *self.said = self.attrail("signoff", str(found[0].id), *self.answer)
                    return
                time.sleep(0.2)


def promoted(workplace, answering: Answering, candidate: str = "7") -> Any:
    from attrail_flows.promote import promote

    config = read_config(workplace.config(explainers=EXPLAINERS))
    answering.start()
    state = promote(config, candidate, alias="canary", return_state=True)
    answering.join()
    return state


@pytest.mark.usefixtures("prefect_server")
def test_an_approved_version_gets_the_alias_and_the_journal_says_who(attrail: Run, workplace, journal) -> None:
    answering = Answering(attrail, "--approve", "--by", "Ada Lovelace", "--why", "looked at twenty overlays")
    state = promoted(workplace, answering)
    assert state.name == "Promoted", (state.message, answering.said)
    assert answering.name_ == "promote-digits-7-to-canary"
    assert "May digits/7 become canary?" in answering.form["description"]
    assert "report.html" in answering.form["description"]
    client = mlflow.MlflowClient(workplace.tracking_uri)
    assert client.get_model_version_by_alias("digits", "canary").version == 7
    (record,) = journal()
    assert record.actor == "the promotion flow"
    assert (record.body["decision"], record.body["by"]) == ("approve", "Ada Lovelace")
    assert record.body["why"] == "looked at twenty overlays"
    assert record.body["run_id"] == workplace.runs()[0].info.run_id
    client.delete_registered_model_alias("digits", "canary")


@pytest.mark.usefixtures("prefect_server")
def test_a_rejected_version_does_not_get_it(attrail: Run, workplace, journal) -> None:
    state = promoted(workplace, Answering(attrail, "--reject", "--by", "Ada Lovelace", "--why", "the stamp again"))
    assert (state.type.value, state.name) == ("FAILED", "Rejected")
    assert "the stamp again" in state.message
    with pytest.raises(mlflow.exceptions.MlflowException):
        mlflow.MlflowClient(workplace.tracking_uri).get_model_version_by_alias("digits", "canary")
    assert [each.body["decision"] for each in journal()] == ["reject"]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """What somebody types at the terminal, line by line."""
    return lambda *lines: monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines) + "\n"))


def test_the_terminal_asks_until_the_form_takes_the_answer(attrail: Run, workplace, journal, typed) -> None:
    config = workplace.config(explainers=EXPLAINERS)
    typed("perhaps", "approve", "A", "looked at overlays", "approve", "Ada Lovelace", "looked at overlays")
    status, out, err = attrail("promote", "--config", config, "--candidate", "7", "--alias", "canary")
    assert status == 0, err
    assert "May digits/7 become canary?" in out
    assert "by: String should have at least 3 characters" in out
    assert out.endswith("promoted  digits/7 is canary\n")
    client = mlflow.MlflowClient(workplace.tracking_uri)
    assert client.get_model_version_by_alias("digits", "canary").version == 7
    assert [(each.body["decision"], each.body["by"]) for each in journal()] == [("approve", "Ada Lovelace")]
    client.delete_registered_model_alias("digits", "canary")


@pytest.mark.parametrize(("candidate", "status"), [("7", 3), ("8", 1)])
def test_the_command_says_by_its_status_why_nothing_was_promoted(
    candidate: str, status: int, attrail: Run, workplace, journal, typed
) -> None:
    typed("reject", "Ada Lovelace", "not this week")
    words = ("--config", workplace.config(explainers=EXPLAINERS), "--candidate", candidate, "--alias", "canary")
    found, out, err = attrail("promote", *words)
    assert (found, "Ada Lovelace rejected" in err) == (status, True), out + err
    with pytest.raises(mlflow.exceptions.MlflowException):
        mlflow.MlflowClient(workplace.tracking_uri).get_model_version_by_alias("digits", "canary")
    assert [each.body["decision"] for each in journal()] == ["reject"]


def test_nobody_is_asked_where_nobody_is_to_be(attrail: Run, workplace, journal) -> None:
    words = ("--candidate", "7", "--alias", "canary", "--ask", "nobody")
    status, _, err = attrail("promote", "--config", workplace.config(explainers=EXPLAINERS), *words)
    assert status == 0, err
    assert journal() == []
    mlflow.MlflowClient(workplace.tracking_uri).delete_registered_model_alias("digits", "canary")


def test_a_terminal_that_has_no_more_to_say_promotes_nothing(attrail: Run, workplace, journal, typed) -> None:
    typed("approve")
    words = ("--config", workplace.config(explainers=EXPLAINERS), "--candidate", "7", "--alias", "canary")
    assert attrail("promote", *words)[0] == 2
    assert journal() == []


def test_the_decision_is_signed_with_the_flows_key(
    attrail: Run, workplace, tmp_path: Path, typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_key(tmp_path / "audit")
    path, trust = tmp_path / "journal.jsonl", tmp_path / "trust.toml"
    trust.write_text(attrail("keys", "show", tmp_path / "audit.pub", "--owner", "worker")[1])
    for name, value in (("SIGNING_KEY", tmp_path / "audit"), ("JOURNAL", path), ("TRUSTED_KEYS", trust)):
        monkeypatch.setenv(f"ATTRAIL_{name}", str(value))
    typed("reject", "Ada Lovelace", "the stamp again")
    attrail("promote", "--config", workplace.config(explainers=EXPLAINERS), "--candidate", "8", "--alias", "canary")
    (record,) = [e for e in read_journal(store_at(str(path)), read_trusted_keys(trust)) if e.event == Event.SIGN_OFF]
    assert record.signature is not None
    assert record.signature["keyid"] == key_id(read_public((tmp_path / "audit.pub").read_bytes(), "audit.pub"))
    assert attrail("verify", path, "--trust", trust)[0] == 0
    path.write_bytes(path.read_bytes().replace(b"the stamp again", b"a fine version!"))
    assert attrail("verify", path, "--trust", trust)[0] == 1


def test_an_answer_needs_a_decision_and_a_run_that_waits(attrail: Run) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    status, _, err = attrail("signoff", nobody, "--by", "Ada", "--why", "because")
    assert (status, "give --approve or --reject" in err) == (2, True)
    status, _, err = attrail("signoff", nobody, "--approve", "--by", "Ada", "--why", "because")
    assert (status, "there is no flow run" in err) == (2, True)


def test_the_question_links_the_run_where_mlflow_has_an_address() -> None:
    document = {"verdict": "PASS", "reason": "nothing moved", "report_location": "runs:/ab/report.html", "run_id": "ab"}
    document |= {"candidate": {"label": "digits/7"}, "reference": {"label": "digits/1"}}
    linked = question(document, "champion", "http://mlflow:5000/")
    assert "[runs:/ab/report.html](http://mlflow:5000/#/runs/ab)" in linked
    assert "Report: runs:/ab/report.html (" in question(document, "champion", "sqlite:///mlflow.db")


def test_the_form_wants_a_decision_a_name_and_a_reason() -> None:
    schema = SignOff.model_json_schema()
    assert schema["properties"]["decision"]["enum"] == ["approve", "reject"]
    assert set(schema["required"]) == {"decision", "by", "why"}
    assert schema["properties"]["by"]["minLength"] == 3
