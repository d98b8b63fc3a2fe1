"""The calibration flow, and the noise floor as every audit takes it: kept before, or measured now."""

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect import flow

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.slice import Slice
from attrail_flows.audit_steps import calibration
from attrail_flows.audit_steps.calibration import Calibrated, FloorModels
from attrail_flows.audit_steps.matched_noise import SliceNoise
from attrail_flows.audit_steps.tasks import (
    ask,
    explain,
    explain_with_noise,
    find_floor,
    flow_run,
    load_floor,
    match_noise,
    measure_floor,
    validate,
)
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained, model_facts
from attrail_flows.engine.session import ExplainSession, explaining
from attrail_flows.flow_runs.late_runs import newest_when_late
from attrail_flows.flow_runs.progress import Clock
from attrail_flows.inputs import remarks
from attrail_flows.inputs.slices import first_images
from attrail_flows.inputs.versions import Versions
from attrail_monitoring.floor.noise_floor import Source
from attrail_monitoring.inference.prediction_bound import FEWEST
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.verdict.looks import planned_looks

logger = logging.getLogger("attrail.audit")


@flow(name="attrail-calibrate", validate_parameters=True)
@newest_when_late
def calibrate(config: AuditConfig) -> dict[str, Any]:
    """Measure the noise floor of the reference and keep it in MLflow, for every audit after it.

    Args:
        config: What ``attrail.toml`` holds; ``registry.candidate`` is not needed.

    Returns:
        What is known of the calibration, and its floors.
    """
    logging.getLogger("attrail").setLevel(logging.INFO)
    policy = config.policy.to_policy()
    registry, versions = load_floor(config)
    _, slices = validate(config, versions)
    with explaining(registry, config, flow_run()) as session:
        slices = ask(session, versions.reference, slices)
        for look in planned_looks(policy, max(each.image_count for each in slices)):
            seen = [first_images(each, look.images) for each in slices]
            reference = explain(session, versions.reference, seen, None)
            found = floor_of(session, versions, seen, reference, policy.settings)
    return found.calibration.document() | {"run_id": found.facts.run_id, "key": found.facts.key}


def floor_of(
    session: ExplainSession, versions: Versions, slices: Sequence[Slice], reference: Explained, settings: Settings
) -> Calibrated:
    """The reference's noise floor: as kept before, or measured now."""
    config = session.config
    source, change = calibration.source_of(config), config.registry.change
    identities = [(each.label, each.source, each.run_id) for each in versions.floor]
    key = calibration.calibration_key(source, identities, slices, reference, settings, change)
    found = _kept(session, reference, key)
    if found is not None:
        return found
    clock = Clock(len(versions.floor) + 1, started=time.monotonic())
    floor = []
    for version in versions.floor:
        floor.append(explain(session, version, slices, reference))
        clock.step(f"explained {version.label}")
    calibration.require_retrains([model_facts(each, "floor") for each in floor], reference)
    return measure_floor(session, slices, reference, FloorModels(source, change, tuple(floor)), key, settings)


def has_floor(config: AuditConfig, versions: Versions) -> bool:
    """Whether an audit has a floor of other versions, or of explanations anew where the function stays the same."""
    return calibration.source_of(config) == "repeats" or len(versions.floor) >= FEWEST


def matched_floor_of(
    session: ExplainSession,
    slices: Sequence[Slice],
    reference: Explained,
    candidate: Explained,
    settings: Settings,
) -> Calibrated:
    """The floor of two versions and nothing else: noise on the reference's weights, as large as the candidate's move.

    There is none, and it is said, for weights that no noise can be put on.
    """
    change = session.config.registry.change
    noises, remark = _noises(session, slices, reference, candidate)
    source: Source = "noise" if noises else "retrains"
    key = calibration.calibration_key(source, [each.row() for each in noises], slices, reference, settings, change)
    found = _kept(session, reference, key)
    if found is None:
        models = explain_with_noise(session, slices, reference, noises) if noises else ()
        floor = FloorModels(source, change, models, noises)
        found = measure_floor(session, slices, reference, floor, key, settings)
    return replace(found, remark=remark)


def _noises(
    session: ExplainSession, slices: Sequence[Slice], reference: Explained, candidate: Explained
) -> tuple[tuple[SliceNoise, ...], str]:
    """The matched noise of every slice; none where one slice has none, and why."""
    try:
        noises = match_noise(session, slices, reference, candidate)
    except UnsupportedModelError as error:
        return (), _said(remarks.no_noise(str(error)))
    for each in noises:
        if not each.reached:
            moved = f"no noise moves the answers of {reference.label} as far as those of {candidate.label} are moved"
            return (), _said(remarks.no_noise(f"on slice {each.slice} {moved}"))
    return noises, ""


def _said(remark: str) -> str:
    logger.warning("%s", remark)
    return remark


def _kept(session: ExplainSession, reference: Explained, key: str) -> Calibrated | None:
    found = find_floor(session.registry, session.config, key)
    if found is not None:
        known = found.facts
        logger.info("noise floor of %s: as calibrated %s in run %s", reference.version.label, known.time, known.run_id)
    return found
