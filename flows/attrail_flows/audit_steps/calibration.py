"""The steps of a calibration as plain functions: the floor's versions, and what the explainers can do."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

from attrail_explainers.attributions import save_attributions
from attrail_explainers.digest import digest_of, digest_of_arrays
from attrail_explainers.errors import ConfigError
from attrail_explainers.explainer import Trait
from attrail_explainers.slice import Slice
from attrail_flows.audit_steps.matched_noise import SliceNoise
from attrail_flows.audit_steps.rehearsals import REPEATS, Rehearsing
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained, explainer_facts, explainers_of, joined_maps, model_facts
from attrail_flows.engine.session import ExplainSession
from attrail_flows.engine.shards import code_digest, packages
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.calibration_run import find_calibration, keep_calibration
from attrail_mlflow.runs.evidence_files import slug
from attrail_monitoring.audit_record import CalibrationFacts, ModelFacts
from attrail_monitoring.decisions.decision_statistic import decision_statistic_names
from attrail_monitoring.floor.calibration import FORMAT, Calibration, Rehearsal, calibrate
from attrail_monitoring.floor.factors import Explainers, factors_of
from attrail_monitoring.floor.noise_floor import Source
from attrail_monitoring.floor.spreads import spreads_of
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import statistic_names

Progress = Callable[[int], object]

NO_WEIGHTS = digest_of_arrays(())  # what ``Classifier.weights_digest`` is where the state is empty


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A calibration, and what the record says of it; ``remark`` says why it has no floor where it should have one."""

    calibration: Calibration
    facts: CalibrationFacts
    remark: str = ""


@dataclass(frozen=True, eq=False)
class FloorModels:
    """What a floor is measured with: explained ``models`` and what they are, for a declared ``change``.

    Those of matched ``noise`` are explained on one slice each: another noise is as large as the candidate's move there.
    """

    source: Source
    change: str
    models: tuple[Explained, ...] = ()
    noise: tuple[SliceNoise, ...] = ()

    @property
    def by_label(self) -> dict[str, list[Explained]]:
        """The parts of each model's evidence."""
        found: dict[str, list[Explained]] = {}
        for each in self.models:
            found.setdefault(each.label, []).append(each)
        return found


def calibration_key(
    source: Source, floor: Sequence[Any], slices: Sequence[Slice], reference: Explained, settings: Settings, change: str
) -> str:
    """Digest of all that a floor depends on: it is measured anew when any of it changes.

    ``floor`` holds plain values that say which its models are.
    """
    factors = {
        explainers: {name: asdict(each) for name, each in factors_of(source, change, explainers).items()}
        for explainers in get_args(Explainers)
    }
    return digest_of(
        {
            "format": FORMAT,
            "source": source,
            "reference": [reference.version.label, reference.weights_digest, reference.program_digest],
            "floor": list(floor),
            **({"factors": factors} if any(factors.values()) else {}),
            "spreads": {name: asdict(each) for name, each in spreads_of(source).items()},
            "slices": {each.name: each.digest for each in slices},
            "targets": {name: found.identity for name, found in reference.targets.items()},
            "explainers": explainer_facts(reference),
            "settings": asdict(settings),
            "statistics": statistic_names(),
            "decisions": decision_statistic_names(),
            "computed": {"machine": reference.machine, "code": code_digest(), "packages": packages()},
        }
    )


def source_of(config: AuditConfig) -> Source:
    """What the floor's models are: the configuration's word, but repeats where the function stays the same."""
    section = config.registry
    if section.change == "same-function":
        return "repeats"
    return section.floor if isinstance(section.floor, str) else section.floor_source


def find(registry: Registry, config: AuditConfig, key: str) -> Calibrated | None:
    """The calibration kept under a key, None when there is none."""
    found = find_calibration(registry, config.registry.experiment, key)
    if found is None:
        return None
    run_id, document, arrays = found
    return Calibrated(Calibration.from_document(document, arrays), _facts(document, run_id))


def measure(
    session: ExplainSession,
    slices: Sequence[Slice],
    reference: Explained,
    floor: FloorModels,
    key: str,
    settings: Settings,
    progress: Progress = lambda images: None,
) -> Calibrated:
    """Calibrate, and keep it with all its maps in a run of its own."""
    registry, config = session.registry, session.config
    rehearsing = Rehearsing(session, slices, reference, progress)
    repeats = rehearsing.repeats() if floor.source == "repeats" else []
    models = list(floor.by_label.values())
    rehearsal = Rehearsal(rehearsing.random_head(), rehearsing.again(models[0] if models else ()))
    others = repeats or [joined_maps(each) for each in models]
    calibration = calibrate(reference.version_maps, others, settings, floor.source, rehearsal, floor.change)
    document = calibration.document() | {
        "key": key,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "reference": asdict(model_facts(reference, "reference")),
        "floor": [asdict(model_facts(each, "floor")) for each in floor.models],
        "accuracy": {each.name: _accuracies(floor.models, each.name) for each in slices},
        "noise": [each.row() for each in floor.noise],
        "slices": {each.name: each.digest for each in slices},
        "explainers": explainer_facts(reference),
    }
    title = f"floor of {reference.version.label}: {len(others)} {floor.source}"
    with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
        for model in floor.models:
            for each in model.maps:
                name = f"{slug(f'floor-{model.label}')}.safetensors"
                save_attributions(each, Path(folder) / "maps" / each.slice_name / each.explainer / name)
        kept = (document, calibration.arrays, Path(folder))
        run_id = keep_calibration(registry, config.registry.experiment, title, *kept)
    return Calibrated(calibration, _facts(document, run_id))


def rehearsed(floor: FloorModels, reference: Explained, slices: Sequence[Slice]) -> int:
    """How many maps ``measure`` computes."""
    explainers = explainers_of(reference)
    aware = sum(Trait.UNTARGETED not in each.traits for each in explainers)
    drawing = sum(Trait.RANDOM in each.traits for each in explainers)
    again = REPEATS * drawing if floor.source == "repeats" else 2 * drawing if floor.models else 0
    return sum(len(each) for each in slices) * (aware + again)


def _accuracies(models: Sequence[Explained], slice_name: str) -> dict[str, float]:
    return {each.label: each.accuracy[slice_name] for each in models if slice_name in each.accuracy}


def require_retrains(models: Sequence[ModelFacts], compared: Explained) -> None:
    """Raise ConfigError if a floor version has the weights of a compared one, or of another: it would lower the floor.

    Models that keep nothing in their state have no weights to compare; they are the same where their programs are.
    """
    known = [model_facts(compared, "compared")]
    for each in models:
        for other in known:
            same = each.program_digest == other.program_digest
            if each.weights_digest == other.weights_digest and (same or each.weights_digest != NO_WEIGHTS):
                how = "" if same else ", under another program"
                raise ConfigError(
                    f"{each.label} in registry.floor has the weights of {other.label}{how}: it is no retrain; "
                    "take it out"
                )
        known.append(each)


def _facts(document: Mapping[str, Any], run_id: str) -> CalibrationFacts:
    return CalibrationFacts(
        key=document["key"],
        run_id=run_id,
        time=document["time"],
        source=document["source"],
        digest=digest_of(document),
        models=tuple(ModelFacts(**each) for each in document["floor"]),
        accuracy=document["accuracy"],
        noise=tuple(document.get("noise", ())),
    )
