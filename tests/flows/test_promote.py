"""Promotion with sign-off: the form, the answer from the terminal, the gate after it, and the journal."""

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from attrail_flows.configuration import read_config
from attrail_flows.sign_off import SignOff
from attrail_mlflow.chain import Event
from attrail_mlflow.journal import read_journal
from attrail_mlflow.journal_place import store_at

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


def test_an_answer_needs_a_decision_and_a_run_that_waits(attrail: Run) -> None:
    nobody = "00000000-0000-0000-0000-000000000000"
    status, _, err = attrail("signoff", nobody, "--by", "Ada", "--why", "because")
    assert (status, "give --approve or --reject" in err) == (2, True)
    status, _, err = attrail("signoff", nobody, "--approve", "--by", "Ada", "--why", "because")
    assert (status, "there is no flow run" in err) == (2, True)


def test_the_form_wants_a_decision_a_name_and_a_reason() -> None:
    schema = SignOff.model_json_schema()
    assert schema["properties"]["decision"]["enum"] == ["approve", "reject"]
    assert set(schema["required"]) == {"decision", "by", "why"}
    assert schema["properties"]["by"]["minLength"] == 3
