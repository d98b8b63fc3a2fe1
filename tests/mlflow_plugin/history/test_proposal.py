"""Every version of a real registry is taken or left, with a reason that is true of it."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelInput
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME

sys.path.append(str(Path(__file__).parent))
from registry_with_history import TAGS, History, empty_history

from attrail_explainers.errors import ConfigError, RegistryError
from attrail_mlflow.history.proposal import Asked, Considered, Proposal, propose
from attrail_mlflow.registry.tags import (
    COMPLETE_TAG,
    MODEL_TAG,
    REFERENCE_TAG,
    VERDICT_TAG,
    WAIVER_TAG,
)

ASKED = Asked("digits", "champion")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[History, list[str]]]:
    """A store, and four logged models of one recipe; version 1 of digits is the champion."""
    before = mlflow.get_tracking_uri()
    history = empty_history(tmp_path_factory.mktemp("history"))
    found = [history.exported(seed) for seed in range(4)]
    history.registered(found[0])
    history.client.set_registered_model_alias("digits", "champion", "1")
    yield history, found
    mlflow.set_tracking_uri(before)


@pytest.fixture
def history(sources: tuple[History, list[str]]) -> Iterator[History]:
    """The store; what a test registers is gone after it."""
    history = sources[0]
    mlflow.set_tracking_uri(history.registry.tracking_uri)
    yield history
    for each in history.client.search_model_versions():
        if (each.name, int(each.version)) != ("digits", 1):
            history.client.delete_model_version(each.name, each.version)


@pytest.fixture
def logged(sources: tuple[History, list[str]]) -> list[str]:
    return sources[1]


def only(proposal: Proposal) -> Considered:
    (found,) = proposal.considered
    return found


def test_other_trainings_of_the_recipe_are_taken_and_it_is_said_what_is_known(
    history: History, logged: list[str]
) -> None:
    numbers = [history.registered(each) for each in logged[1:]]
    told: list[str] = []
    found = propose(history.registry, ASKED, progress=told.append)
    assert [each.version for each in found.taken] == numbers
    assert [each.version for each in found.considered] == numbers[::-1]
    assert found.label == "digits/1"
    assert found.considered[0].why == (
        "same 2 parameters, other seed (3); same commit 1a2b3c4d5e6f; same program train.py; "
        "not known: training data; same 4 tensors by name and shape"
    )
    assert len({each.files for each in found.taken}) == 3
    assert told == [f"reading the files of digits/{each}" for each in ("1", *numbers[::-1])]


@pytest.mark.parametrize(
    ("parameters", "why"),
    [
        ({"lr": 0.1}, "lr is 0.1, digits/1 has 0.01"),
        ({"lr": None, "mixup": 0.2}, "lr is none, digits/1 has 0.01; mixup is 0.2, digits/1 has none"),
        ({"lr": "1e-2", "run_name": "nightly", "output_dir": "/tmp/x"}, None),
        ({"tags": TAGS | {MLFLOW_GIT_COMMIT: "f" * 40}}, f"its commit is {'f' * 12}, digits/1 has 1a2b3c4d5e6f"),
        ({"tags": TAGS | {MLFLOW_SOURCE_NAME: "finetune.py"}}, "its program is finetune.py, digits/1 has train.py"),
        ({"tags": TAGS | {MLFLOW_SOURCE_NAME: "/home/ada/7/train.py"}}, None),
        ({"tags": TAGS | {"mlflow.project.entryPoint": "main"}}, None),
        ({"tags": {}}, None),
        ({"ended": "FAILED"}, "ended FAILED"),
    ],
)
def test_other_recipes_are_left_and_what_is_not_known_is_said(
    history: History, logged: list[str], parameters: dict[str, object], why: str | None
) -> None:
    history.registered(logged[1], history.run(9, **parameters))
    found = only(propose(history.registry, ASKED))
    assert found.taken == (why is None)
    assert not found.never
    if why is not None:
        assert why in found.why
    elif "tags" not in parameters:
        assert "other output_dir (/tmp/x), run_name (nightly), seed (9)" in found.why
    elif not parameters["tags"]:
        assert "not known: commit of digits/" in found.why
        assert "same commit" not in found.why


def test_a_version_without_a_run_or_with_one_that_says_nothing_is_left(history: History, logged: list[str]) -> None:
    deleted, mute = history.run(1), history.run(None, lr=None, epochs=None)
    for run in (None, deleted, mute):
        history.registered(logged[1], run)
    history.client.delete_run(deleted)
    third, second, first = propose(history.registry, ASKED).considered
    assert first.left == ("it was registered without a run",)
    assert second.left == (f"its run {deleted} is deleted",)
    assert third.left == (f"its run {mute} has no parameters",)


def test_nothing_is_like_a_reference_of_which_nothing_is_known(history: History, logged: list[str]) -> None:
    reference = history.registered(logged[0], None)
    history.registered(logged[1])
    found = propose(history.registry, Asked("digits", reference))
    assert not found.taken
    assert (
        f"nothing says how digits/{reference} was trained: it was registered without a run" in found.considered[0].why
    )


def test_one_version_stands_for_a_training(history: History, logged: list[str]) -> None:
    """Checkpoints of one run are no retrains of each other, and those of the reference's run none of it."""
    run, reference = history.run(5), history.client.get_model_version("digits", "1").run_id
    early, late = history.registered(logged[1], run), history.registered(logged[2], run)
    history.registered(logged[3], reference)
    own, newest, older = propose(history.registry, ASKED).considered
    assert newest.taken
    assert older.left == (f"its run logged digits/{late} as well: one version stands for a training",)
    assert older.version == early
    assert "the run of digits/1 logged it as well" in own.why


def test_another_model_is_never_a_floor(history: History, logged: list[str]) -> None:
    wide, more = (history.exported(7, history.run(7), **change) for change in ({"width": 6}, {"classes": 6}))
    pickled = history.exported(8, history.run(8), serialization_format="pickle")
    again = history.registered(logged[1], history.run(6))
    for source in (logged[0], wide, more, pickled, logged[1]):
        history.registered(source, history.run(9))
    twice, loose, classes, shape, same, first = propose(history.registry, ASKED, insisted=[again]).considered
    assert same.never == ("it has the weights of digits/1",)
    assert shape.never[0].startswith(
        "its tensors are not those of digits/1 in name, type or shape: 0.bias, 0.weight, 4"
    )
    assert classes.never[0] == "it was logged with other classes: 6, digits/1 with 5"
    assert "its files cannot be used" in loose.never[0]
    assert "is pickled" in loose.never[0]
    assert twice.taken
    assert first.never == (f"it has the weights of digits/{twice.version}",)
    allowed = propose(history.registry, Asked("digits", "1", allow_pickle=True)).considered[1]
    assert allowed.left == (f"digits/{loose.version} is pickled: its tensors are not known before it is run",)


def test_evidence_against_a_version_counts(history: History, logged: list[str]) -> None:
    waived, tagged, elsewhere, audited, cleared = (history.registered(each) for each in [*logged[1:], *logged[1:3]])
    client, runs = history.client, {}
    client.set_model_version_tag("digits", waived, WAIVER_TAG, "{}")
    for version, against in ((tagged, "models:/digits/1"), (elsewhere, "models:/digits/99")):
        client.set_model_version_tag("digits", version, VERDICT_TAG, "DRIFT")
        client.set_model_version_tag("digits", version, REFERENCE_TAG, against)
    for version, verdicts in ((audited, ["PASS", "DRIFT"]), (cleared, ["DRIFT", "PASS"])):
        for verdict in verdicts:
            tags = {MODEL_TAG: "digits", VERDICT_TAG: verdict, COMPLETE_TAG: "true"}
            experiment = client.get_experiment_by_name("attrail").experiment_id
            runs[version] = client.create_run(experiment, tags=tags).info.run_id
            for key, value in (("reference", "models:/digits/1"), ("candidate", f"models:/digits/{version}")):
                client.log_param(runs[version], key, value)
    found = {each.version: each.left for each in propose(history.registry, ASKED).considered}
    assert found[waived] == ("it carries a waiver: it was let through without a verdict",)
    assert found[tagged] == ("it was found DRIFT against digits/1",)
    assert found[audited] == (f"it was found DRIFT against digits/1 in run {runs[audited]}",)
    assert not found[elsewhere]
    assert "DRIFT" not in "".join(found[cleared])


def test_the_candidate_and_what_is_newer_are_left(history: History, logged: list[str]) -> None:
    older, candidate, newer = (history.registered(each) for each in logged[1:])
    found = propose(history.registry, Asked("digits", "champion", candidate))
    assert [each.version for each in found.taken] == [older]
    assert found.considered[1].left == ("it is the candidate",)
    assert found.considered[0].left == (f"it is newer than the candidate, digits/{candidate}",)
    assert found.considered[0].version == newer
    with pytest.raises(RegistryError, match="'98'"):
        propose(history.registry, Asked("digits", "champion", "98"))


def test_other_data_are_another_recipe_unless_a_refresh_was_declared(history: History, logged: list[str]) -> None:
    def run_on(digest: str, seed: int, context: str = "training") -> str:
        run = history.run(seed, data_date=digest)
        inputs = DatasetInput(Dataset("scans", digest, "local", "{}"), [InputTag(MLFLOW_DATASET_CONTEXT, context)])
        history.client.log_inputs(run, [inputs])
        return run

    reference = history.registered(logged[0], run_on("may", 0))
    history.registered(logged[1], run_on("june", 1))
    history.registered(logged[2], run_on("may", 2))
    history.registered(logged[3], run_on("may", 3, context="evaluation"))
    looked_at, same, other = propose(history.registry, Asked("digits", reference)).considered[:3]
    assert other.left == (
        f"data_date is june, digits/{reference} has may",
        f"its training data is scans (june), digits/{reference} has scans (may)",
    )
    assert "same training data scans (may)" in same.why
    assert "not known: training data of" in looked_at.why
    refreshed = propose(history.registry, Asked("digits", reference, change="refresh"))
    assert {each.version for each in (looked_at, same, other)} <= {each.version for each in refreshed.taken}


@pytest.mark.parametrize("named", ["parameter", "tag", "input"])
def test_the_history_of_a_fine_tune_are_fine_tunes(history: History, logged: list[str], named: str) -> None:
    """The reference's own recipe is another one: fine-tunes are held against the candidate, or the newest of them."""
    reference = history.client.get_model_version("digits", "1")

    def tuned(seed: int, **more: object) -> str:
        spelled = {"init_from": "models:/digits/1"} if named == "parameter" else {}
        tags = TAGS | ({"base": f"runs:/{reference.run_id}/model"} if named == "tag" else {})
        run = history.run(seed, tags, lr=0.001, **spelled, **more)
        if named == "input":
            history.client.log_inputs(run, models=[LoggedModelInput(str(reference.source).removeprefix("models:/"))])
        return run

    history.registered(logged[1])
    fine, other, newest = (
        history.registered(source, tuned(seed, **more))
        for source, seed, more in ((logged[1], 1, {}), (logged[2], 2, {"epochs": 3}), (logged[3], 3, {}))
    )
    asked = Asked("digits", "1", change="fine-tune")
    found = propose(history.registry, asked)
    assert [each.version for each in found.taken] == [fine, newest]
    assert found.considered[1].left == (f"epochs is 3, digits/{newest} has 12",)
    assert found.considered[3].left == (
        "no parameter, tag or input of its run names digits/1: it is no fine-tune of it",
    )
    held = propose(history.registry, Asked("digits", "1", candidate=other, change="fine-tune"))
    assert not held.taken
    assert f"epochs is 12, digits/{other} has 3" in held.considered[2].why


def test_where_there_is_no_fine_tune_it_is_said(history: History, logged: list[str]) -> None:
    history.registered(logged[1])
    assert only(propose(history.registry, Asked("digits", "1", change="fine-tune"))).left == (
        "no run names digits/1: it has no fine-tune",
    )


def test_what_speaks_only_against_a_version_can_be_set_aside(history: History, logged: list[str]) -> None:
    number = history.registered(logged[1], history.run(1, lr=0.5))
    left, insisted = only(propose(history.registry, ASKED)), only(propose(history.registry, ASKED, [number]))
    assert left.files == ""
    assert re.fullmatch("sha256:[0-9a-f]{64}", insisted.files)
    assert insisted.left == left.left == ("lr is 0.5, digits/1 has 0.01",)


@pytest.mark.parametrize("change", ["architecture", "same-function"])
def test_other_changes_have_no_history(history: History, change: str) -> None:
    with pytest.raises(ConfigError, match="retrain, refresh or fine-tune"):
        propose(history.registry, Asked("digits", "1", change=change))
