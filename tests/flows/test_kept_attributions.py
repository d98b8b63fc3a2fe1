"""Audits take what earlier ones computed: the same bytes, said where from, and nothing wrong is ever taken."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest

from attrail_explainers.errors import RegistryError
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model import working_copy
from attrail_explainers.runtime.machine import machine_of
from attrail_flows.configuration import AuditConfig, read_config
from attrail_flows.engine import shards
from attrail_flows.engine.explained import Explained
from attrail_flows.engine.model_pool import POOL
from attrail_flows.engine.serial_engine import explained_alone
from attrail_flows.engine.session import ExplainSession
from attrail_flows.engine.task_runners import Load
from attrail_flows.engine.worker import Question, Reply, Work, answer, compute
from attrail_flows.inputs.slices import read_slices
from attrail_mlflow.registry.folder_digest import file_digest
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.tags import ATTRIBUTIONS_TAG
from attrail_mlflow.runs.attribution_store import KEPT, Entry

Run = Callable[..., tuple[int, str, str]]


class InTurn:
    """The plainest engine: one shard after the other, here."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.done: list[Work] = []
        self.fail_at = fail_at

    def ask(self, question: Question[Reply]) -> Reply:
        return answer(question)

    def compute(self, works: Iterable[Work], load: Load | None = None) -> Iterator[tuple[Work, list[Entry]]]:
        for work in works:
            if len(self.done) == self.fail_at:
                raise RegistryError("the server is away", transient=True)
            self.done.append(work)
            yield work, compute(work)


@pytest.fixture
def experiment(workplace, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """An experiment of this test alone, and shards so small that there are several."""
    mlflow.set_tracking_uri(workplace.tracking_uri)
    name = f"kept {request.node.name}"
    mlflow.create_experiment(name, artifact_location=str(workplace.folder / "artifacts"))
    monkeypatch.setattr(shards, "BUDGET", 4e7)
    return name


@pytest.fixture
def config(workplace, experiment: str) -> AuditConfig:
    explainers = "".join(f'[[explainer]]\nname = "{name}"\nevaluations = 16\n' for name in ("shap", "lime"))
    explainers += '[[explainer]]\nname = "gradcam"\n'
    return read_config(workplace.config(registry=f'experiment = "{experiment}"', explainers=explainers))


def explained(config: AuditConfig, engine: InTurn, number: str = "1", flow: str = "flow") -> Explained:
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve("digits", number)
    slices = read_slices(config, version)
    try:
        return ExplainSession(registry, config, engine, flow).explain(version, slices, None, lambda maps: None)
    finally:
        POOL.forget(flow)


def runs_of(workplace, experiment: str) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(workplace.tracking_uri)
    found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    return [run for run in found if ATTRIBUTIONS_TAG in run.data.tags]


def digests(found: Explained) -> dict[str, str]:
    return {each.explainer: each.digest for each in found.maps}


def test_what_was_computed_once_is_not_computed_again_and_is_the_same(config: AuditConfig, workplace) -> None:
    first, again = InTurn(), InTurn()
    one, other = explained(config, first), explained(config, again)
    assert len(first.done) > 4
    assert again.done == []
    assert digests(one) == digests(other)
    assert (one.predictions["validation"] == other.predictions["validation"]).all()
    assert one.made_in == other.made_in
    (run,) = runs_of(workplace, config.registry.experiment)
    assert {run_id for made in other.made_in.values() for run_id in made} == {run.info.run_id}
    assert sum(name.startswith(KEPT) for name in run.data.tags) > len(first.done), "SHAP and LIME make two files each"


def test_shards_make_what_an_uncut_slice_makes(config: AuditConfig) -> None:
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve("digits", "1")
    (slice_,) = read_slices(config, version)
    explainers = [each.to_explainer() for each in config.explainers]
    whole = explain_slice(registry.load(version), slice_, explainers, slice_.labels, config.policy.seed)
    found = explained(config, InTurn())
    assert digests(found) == {each.explainer: each.digest for each in whole}
    assert (found.targets["validation"].classes == slice_.labels).all()


def test_what_is_explained_alone_is_the_same_and_nothing_of_it_is_kept(config: AuditConfig, workplace) -> None:
    """As for ``attrail explain`` and ``attrail windows``, with several shards."""
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve("digits", "1")
    slices = read_slices(config, version)
    for chosen in (config, config.of_predictions()):
        asking, found = explained_alone(chosen, registry, version, slices)
        assert runs_of(workplace, config.registry.experiment) == []
    kept = explained(config.of_predictions(), InTurn())
    assert [each.digest for each in asking] == [each.digest for each in slices], "a row for each image"
    assert digests(found) == digests(kept)
    assert (found.targets["validation"].classes == found.predictions["validation"]).all()
    assert (found.targets["validation"].classes != slices[0].labels).any(), "an image is taken for another class"


def test_other_weights_another_seed_and_fresh_are_computed(config: AuditConfig) -> None:
    explained(config, first := InTurn())
    explained(config, other := InTurn(), "2")
    assert len(other.done) == len(first.done)
    seeded = config.model_copy(update={"policy": config.policy.model_copy(update={"seed": 1})})
    explained(seeded, drawn := InTurn())
    assert len(drawn.done) == sum(bool(each.explainers) for each in first.done), "logits have no seed"
    explained(config.run_with(fresh=True), anew := InTurn())
    assert len(anew.done) == len(first.done)


def test_another_kind_of_machine_computes_for_itself(config: AuditConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    explained(config, first := InTurn())
    monkeypatch.setattr(working_copy, "machine_of", lambda device: "x86_64, without AVX2")
    explained(config, other := InTurn())
    assert len(other.done) == len(first.done)
    explained(config, again := InTurn())
    assert again.done == []


def test_what_another_machine_computed_for_this_one_is_not_taken_for_its_own(
    config: AuditConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Elsewhere(InTurn):
        def ask(self, question: Question[Reply]) -> Reply:
            found = super().ask(question)
            monkeypatch.setattr(working_copy, "machine_of", lambda device: "x86_64, without AVX2")
            return found

    one = explained(config, there := Elsewhere())
    monkeypatch.setattr(working_copy, "machine_of", machine_of)
    other = explained(config, here := InTurn())
    assert len(here.done) == len(there.done)
    assert digests(one) == digests(other), "it only says that it is another machine"


def test_one_explainer_more_computes_that_one_alone(config: AuditConfig) -> None:
    fewer = config.model_copy(update={"explainers": config.explainers[:1]})
    before = explained(fewer, InTurn())
    after = explained(config, engine := InTurn())
    assert all(each.explainers for each in engine.done), "the logits were there"
    assert digests(after)["shap"] == digests(before)["shap"]


def test_a_champion_that_was_audited_as_a_candidate_is_known(config: AuditConfig) -> None:
    """A candidate's explainers name the reference's layer; as a reference it finds the same one by itself."""
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve("digits", "1")
    slices = read_slices(config, version)
    how = ExplainSession(registry, config, InTurn(), "flow")
    reference = how.explain(version, slices, None, lambda maps: None)
    how.explain(registry.resolve("digits", "2"), slices, reference, lambda maps: None)
    POOL.forget("flow")
    explained(config, engine := InTurn(), "2")
    assert engine.done == []


@pytest.mark.parametrize("harm", ["altered", "missing", "other maps", "other maps with their tag"])
def test_a_wrong_file_is_computed_anew_and_said(
    config: AuditConfig, workplace, harm: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = explained(config, first := InTurn())
    (run,) = runs_of(workplace, config.registry.experiment)
    files = sorted((Path(run.info.artifact_uri) / "attributions").iterdir())
    path = max(files, key=lambda each: each.stat().st_size)
    if harm == "missing":
        path.unlink()
    else:
        other = sorted(files, key=lambda each: each.stat().st_size)[-2]
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1" if harm == "altered" else other.read_bytes())
    if harm == "other maps with their tag":
        client = mlflow.MlflowClient(workplace.tracking_uri)
        client.set_tag(run.info.run_id, KEPT + path.stem, file_digest(path))
    found = explained(config, second := InTurn())
    assert len(second.done) == 1
    assert len(first.done) > 1
    assert digests(found) == digests(whole)
    assert "it is not used" in caplog.text
    explained(config, third := InTurn())
    assert third.done == [], "of two files under one key the right one is taken"


def test_a_server_that_goes_away_in_the_middle_costs_no_finished_shard(config: AuditConfig) -> None:
    with pytest.raises(RegistryError):
        explained(config, broken := InTurn(fail_at=3))
    explained(config, rest := InTurn())
    explained(config.run_with(fresh=True), whole := InTurn())
    assert len(broken.done) + len(rest.done) == len(whole.done)


KILLED = """
import os, signal, sys
import attrail_flows
from attrail_flows.engine import shards
shards.BUDGET = 4e7
from attrail_flows.configuration import read_config
from attrail_mlflow.registry.registry import Registry
sys.path.insert(0, os.environ["TESTS"])
from test_kept_attributions import InTurn, explained
import mlflow
place, count = sys.argv[2], int(sys.argv[3])
calls = 0
def dying(real):
    def called(self, *arguments, **options):
        global calls
        calls += 1
        if calls == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(self, *arguments, **options)
    return called
setattr(mlflow.MlflowClient, place, dying(getattr(mlflow.MlflowClient, place)))
explained(read_config(__import__("pathlib").Path(sys.argv[1])), InTurn())
"""


@pytest.mark.parametrize(
    ("place", "complete"), [("log_artifact", 1), pytest.param("log_batch", 2, marks=pytest.mark.slow)]
)
def test_a_killed_run_is_continued_and_at_most_its_last_shard_is_computed_again(
    config: AuditConfig, workplace, place: str, complete: int
) -> None:
    """Kill -9 between the two files of the second shard, and before the third shard is called complete."""
    command = [sys.executable, "-c", KILLED, str(workplace.folder / "attrail.toml"), place, "3"]
    environment = os.environ | {"TESTS": str(Path(__file__).parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (run,) = runs_of(workplace, config.registry.experiment)
    assert run.info.status == "RUNNING"
    assert sum(name.startswith(KEPT) for name in run.data.tags) == 2 * complete - 1, "logits, then SHAP and LIME"
    found = explained(config, rest := InTurn())
    anew = explained(config.run_with(fresh=True), whole := InTurn())
    assert len(rest.done) == len(whole.done) - complete
    assert digests(found) == digests(anew)


def test_an_audit_says_which_runs_made_its_maps(attrail: Run, workplace) -> None:
    config = workplace.config(explainers='[[explainer]]\nname = "gradcam"', registry='experiment = "attrail"')
    results = []
    for fresh in (["--fresh"], []):
        status, _, err = attrail("audit", "--config", config, *fresh, "--json", workplace.folder / "result.json")
        assert status in (0, 1, 3), err
        results.append(json.loads((workplace.folder / "result.json").read_text()))
    first, second = results
    assert set(second["made_in"]) == {"validation/gradcam/digits/1", "validation/gradcam/digits/7"}
    assert first["maps"] == second["maps"]
    client = mlflow.MlflowClient(workplace.tracking_uri)
    for made in first["made_in"].values():
        for run_id in made:
            assert client.get_run(run_id).data.tags["mlflow.parentRunId"] == first["run_id"]
    for made in second["made_in"].values():
        for run_id in made:
            assert client.get_run(run_id).data.tags.get("mlflow.parentRunId") != second["run_id"]


@pytest.mark.parametrize("what", ["weights_digest", "program_digest"])
def test_a_model_that_was_exchanged_is_refused(config: AuditConfig, what: str) -> None:
    class Before(InTurn):
        def ask(self, question: Question[Reply]) -> Reply:
            found = super().ask(question)
            return replace(found, model=replace(found.model, **{what: "sha256:" + "0" * 64}))

    with pytest.raises(RegistryError, match="changed while it was audited"):
        explained(config, Before())
