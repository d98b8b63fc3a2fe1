"""A choice is kept with its reference, found again as it was, and refused where it is damaged or another one's."""

import sys
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow.entities.model_registry import ModelVersion

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "gate"))
from gate_client import GateClient
from gated_server import Server
from registry_with_history import History, empty_history, history_at

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.history.choice import (
    FILE,
    FITS,
    FloorChoice,
    choice_of,
    find_choice,
    keep_choice,
    require_files,
    who,
)
from attrail_mlflow.history.proposal import Asked, Considered, Proposal, propose
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import read_journal
from attrail_mlflow.journal.location import store_at
from attrail_mlflow.registry.tags import FLOOR_TAG
from attrail_mlflow.runs.audit_run import ROOT

FILES = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """A store with two versions, whose files nobody reads here."""
    before = mlflow.get_tracking_uri()
    found = empty_history(tmp_path_factory.mktemp("choices"))
    found.client.create_registered_model("digits")
    for _ in range(2):
        found.client.create_model_version("digits", "/nowhere")
    mlflow.set_tracking_uri(before)
    return found


@pytest.fixture
def reference(history: History) -> ModelVersion:
    """Version 1, without a choice."""
    mlflow.set_tracking_uri(history.registry.tracking_uri)
    history.client.delete_model_version_tag("digits", "1", FLOOR_TAG)
    return now(history)


def now(history: History, version: str = "1") -> ModelVersion:
    return history.client.get_model_version("digits", version)


def choice(reference: ModelVersion, others: int = 3, why: str = "same 3 parameters", **facts: str) -> FloorChoice:
    left = tuple(Considered(str(number), left=("lr is 0.1, digits/1 has 0.01",)) for number in range(20, 20 + others))
    free = (Considered("7", said=("same",), files=FILES),)
    taken = tuple(Considered(str(number), said=(why,), files=FILES) for number in range(2, 6))
    aside = Considered("6", left=("lr is 0.5, digits/1 has 0.01",), files=FILES)
    found = Proposal(reference, (*left, *free, aside, *taken[::-1]))
    return choice_of(found, [*taken, aside], "retrain", "ada@lab", **facts)


def test_what_was_chosen_is_found_again(history: History, reference: ModelVersion) -> None:
    assert find_choice(history.registry, reference) is None
    made = choice(reference, why="nightlies of May")
    keep_choice(history.registry, "attrail", reference, made)
    found = find_choice(history.registry, now(history))
    assert found == made
    assert [each.version for each in found.versions] == ["2", "3", "4", "5", "6"]
    assert found.versions[-1].because == "chosen although lr is 0.5, digits/1 has 0.01"
    assert found.left["7"] == "not chosen"
    assert found.left["20"] == "lr is 0.1, digits/1 has 0.01"
    assert len(now(history).tags[FLOOR_TAG]) < FITS


def test_a_later_choice_takes_the_place_of_the_first(history: History, reference: ModelVersion) -> None:
    for why in ("first", "second"):
        keep_choice(history.registry, "attrail", reference, choice(reference, why=why))
    found = find_choice(history.registry, now(history))
    assert found is not None
    assert found.versions[0].because == "second"


def test_a_long_choice_lies_in_a_run_that_nobody_may_change(history: History, reference: ModelVersion) -> None:
    made = choice(reference, others=300)
    keep_choice(history.registry, "attrail", reference, made)
    assert len(now(history).tags[FLOOR_TAG]) < 300
    assert find_choice(history.registry, now(history)) == made
    (run,) = history.client.search_runs([history.client.get_experiment_by_name("attrail").experiment_id])
    assert (run.info.run_name, run.info.status) == ("floor of digits/1: chosen history", "FINISHED")
    history.client.log_text(run.info.run_id, "{}", f"{ROOT}/{FILE}")
    with pytest.raises(EvidenceError, match=f"run {run.info.run_id} holds another floor of digits/1 than was chosen"):
        find_choice(history.registry, now(history))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: "", "tag attrail.floor of digits/1"),
        (lambda text: "[]", "tag attrail.floor of digits/1"),
        (lambda text: "{}", "'format' is missing"),
        (lambda text: "[" * 10_000, "tag attrail.floor of digits/1"),
        (lambda text: text.replace("attrail.floor/1", "attrail.floor/2"), "expected attrail.floor/1"),
        (lambda text: text.replace(FILES, "sha256:none", 1), r"versions\[0\].files"),
        (lambda text: text.replace('"by":"ada@lab"', '"by":7'), "by: expected text, got '7'"),
        (lambda text: text.replace("models:/digits/1", "models:/digits/2"), "is about models:/digits/2"),
        (lambda text: text.replace('"left":', '"list":'), "'left' is missing"),
        (lambda text: text.replace('"format"', '"run_id":"1","format"'), "tag attrail.floor of digits/1"),
    ],
)
def test_a_tag_that_holds_no_choice_is_refused(history: History, reference: ModelVersion, change, why: str) -> None:
    keep_choice(history.registry, "attrail", reference, choice(reference))
    history.client.set_model_version_tag("digits", "1", FLOOR_TAG, change(now(history).tags[FLOOR_TAG]))
    with pytest.raises(EvidenceError, match=f"{why}.*; choose anew with attrail floor"):
        find_choice(history.registry, now(history))


def test_a_choice_that_was_copied_with_another_version_is_not_its_own(
    history: History, reference: ModelVersion
) -> None:
    keep_choice(history.registry, "attrail", reference, choice(reference))
    history.client.set_model_version_tag("digits", "2", FLOOR_TAG, now(history).tags[FLOOR_TAG])
    with pytest.raises(EvidenceError, match="of digits/2 is about models:/digits/1; choose anew"):
        find_choice(history.registry, now(history, "2"))


def test_the_journal_says_who_chose_what(
    history: History, reference: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATTRAIL_JOURNAL", str(tmp_path / "journal.jsonl"))
    keep_choice(history.registry, "attrail", reference, choice(reference))
    _, noted = read_journal(store_at(str(tmp_path / "journal.jsonl")), None)
    assert noted.event == Event.FLOOR
    assert noted.body["model"] == {"name": "digits", "version": "1"}
    assert (noted.body["by"], noted.body["versions"]) == ("ada@lab", ["2", "3", "4", "5", "6"])


def test_at_a_real_server_with_the_gate_in_it(server: Server, gate_client: GateClient) -> None:
    """Files come over HTTP; a copy of the reference has no choice of its own; other files are noticed."""
    before = mlflow.get_tracking_uri()
    try:
        history = history_at(server.address, "trainings", "evidence")
        name, sources = gate_client.fresh_name(), [history.exported(seed) for seed in range(2)]
        for each in sources:
            history.registered(each, name=name)
        found = propose(history.registry, Asked(name, "1", experiment="evidence"))
        assert [each.version for each in found.taken] == ["2"]
        made = choice_of(found, found.taken, "retrain", "ada@lab")
        keep_choice(history.registry, "evidence", found.reference, made)
        reference = history.client.get_model_version(name, "1")
        assert find_choice(history.registry, reference) == made
        like = {"model_id": sources[0].removeprefix("models:/"), "tags": dict(reference.tags)}
        copy = history.client.create_model_version(name, sources[0], **like)
        assert find_choice(history.registry, copy) is None
        version = history.registry.resolve(name, "2")
        require_files(history.registry, version, made, allow_pickle=False)
        other = replace(made, versions=(replace(made.versions[0], files=FILES),))
        with pytest.raises(EvidenceError, match=f"the files of {name}/2 are not those that ada@lab chose"):
            require_files(history.registry, version, other, allow_pickle=False)
    finally:
        mlflow.set_tracking_uri(before)


def test_who_chooses_is_whom_mlflow_knows_else_whom_the_journal_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTRAIL_ACTOR", "nightly")
    assert who() == "nightly"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    assert who() == "ada"
