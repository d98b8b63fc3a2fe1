"""Rehearsals: the maps of plain library calls, kept as every version's are."""

from collections.abc import Iterable, Iterator

import mlflow
import pytest

from attrail_explainers.assessment.weight_randomisation import head_weights, shuffled
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import ExplanationError
from attrail_explainers.explainer import Trait
from attrail_explainers.explanation import explain_slice
from attrail_explainers.runtime.torch_threads import one_torch_thread
from attrail_flows.audit_steps.rehearsals import Rehearsing
from attrail_flows.configuration import AuditConfig, read_config
from attrail_flows.engine import session, shards
from attrail_flows.engine.explained import explainers_of
from attrail_flows.engine.serial_engine import InTurn, explaining_in_turn
from attrail_flows.engine.session import Draw
from attrail_flows.engine.task_runners import Load
from attrail_flows.engine.worker import Work
from attrail_flows.inputs.slices import read_slices
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.attribution_store import Entry


@pytest.fixture
def config(workplace, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> AuditConfig:
    """An experiment of this test alone, and shards so small that there are several."""
    mlflow.set_tracking_uri(workplace.tracking_uri)
    name = f"rehearsals {request.node.name}"
    mlflow.create_experiment(name, artifact_location=str(workplace.folder / "artifacts"))
    monkeypatch.setattr(shards, "BUDGET", 4e7)
    explainers = '[[explainer]]\nname = "gradcam"\n\n[[explainer]]\nname = "lime"\nevaluations = 16'
    return read_config(workplace.config(registry=f'experiment = "{name}"', explainers=explainers, slice="limit = 24"))


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is computed, work by work."""
    done: list[str] = []
    real = InTurn.compute

    def counted(self: InTurn, works: Iterable[Work], load: Load | None = None) -> Iterator[tuple[Work, list[Entry]]]:
        for work, entries in real(self, works, load):
            done.append(work.label)
            yield work, entries

    monkeypatch.setattr(InTurn, "compute", counted)
    return done


def rehearsed(config: AuditConfig) -> tuple[dict[str, str], dict[str, str]]:
    """Digests of the maps with a random head, and of the first repeat's."""
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve("digits", "1")
    slices = read_slices(config, version)
    with explaining_in_turn(registry, config) as how:
        reference = how.explain(version, slices, None, lambda maps: None)
        rehearsing = Rehearsing(how, slices, reference, lambda maps: None)
        return tuple(
            {each.explainer: each.digest for each in found.maps}
            for found in (rehearsing.random_head(), rehearsing.repeats()[0])
        )


def test_they_are_computed_once(config: AuditConfig, computed: list[str]) -> None:
    first = rehearsed(config)
    count = len(computed)
    assert sum("with a random head" in label for label in computed) > 2
    assert rehearsed(config) == first
    assert len(computed) == count


def test_a_random_head_gives_what_the_library_gives(config: AuditConfig) -> None:
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve("digits", "1")
    (slice_,) = slices = read_slices(config, version)
    with explaining_in_turn(registry, config) as how:
        reference = how.explain(version, slices, None, lambda maps: None)
        found = Rehearsing(how, slices, reference, lambda maps: None).random_head()
    classifier = registry.load(version)
    head = shuffled(classifier, classifier.working_copy(slice_.images), head_weights, seed_of("random head", 0))
    aware = [each for each in explainers_of(reference) if Trait.UNTARGETED not in each.traits]
    with one_torch_thread():
        plain = explain_slice(head, slice_, aware, reference.targets["validation"], 0)
    assert len(plain) == len(found.maps) == 2
    for one, other in zip(found.maps, plain, strict=True):
        assert (one.values == other.values).all()
        assert one.weights_digest == other.weights_digest != reference.weights_digest


def test_an_explainer_that_gives_nothing_is_left_out(config: AuditConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    real = session.require_some_map

    def none_of_gradcam(maps) -> None:
        if maps.explainer == "gradcam" and maps.model.endswith("random head"):
            raise ExplanationError("gradcam gives no map for any image")
        real(maps)

    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve("digits", "1")
    slices = read_slices(config, version)
    with explaining_in_turn(registry, config) as how:
        reference = how.explain(version, slices, None, lambda maps: None)
        monkeypatch.setattr(session, "require_some_map", none_of_gradcam)
        explainers = explainers_of(reference)
        found = how.rehearse(version, slices, explainers, reference, Draw(0, head=1), lambda maps: None)
    assert [each.explainer for each in found.maps] == ["lime"]
