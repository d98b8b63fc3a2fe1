"""The calibration flow, and the noise floor as every audit takes it: kept before, or measured now."""

import logging
import time
from collections.abc import Sequence
from typing import Any

from prefect import flow

from attrail_explainers.slice import Slice
from attrail_flows.audit_steps import calibration
from attrail_flows.audit_steps.calibration import Calibrated
from attrail_flows.audit_steps.tasks import explain, find_floor, flow_run, load_floor, measure_floor, validate
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained, model_facts
from attrail_flows.engine.session import ExplainSession, explaining
from attrail_flows.flow_runs.late_runs import newest_when_late
from attrail_flows.flow_runs.progress import Clock
from attrail_flows.inputs.versions import Versions
from attrail_monitoring.maps.settings import Settings

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
    registry, versions = load_floor(config)
    _, slices = validate(config, versions)
    with explaining(registry, config, flow_run()) as session:
        reference = explain(session, versions.reference, slices, None)
        found = floor_of(session, versions, slices, reference, config.policy.to_policy().settings)
    return found.calibration.document() | {"run_id": found.facts.run_id, "key": found.facts.key}


def floor_of(
    session: ExplainSession, versions: Versions, slices: Sequence[Slice], reference: Explained, settings: Settings
) -> Calibrated:
    """The reference's noise floor: as kept before, or measured now."""
    registry, config = session.registry, session.config
    key = calibration.calibration_key(config, versions, slices, reference, settings)
    found = find_floor(registry, config, key)
    if found is not None:
        known = found.facts
        logger.info("noise floor of %s: as calibrated %s in run %s", reference.version.label, known.time, known.run_id)
        return found
    clock = Clock(len(versions.floor) + 1, started=time.monotonic())
    floor = []
    for version in versions.floor:
        floor.append(explain(session, version, slices, reference))
        clock.step(f"explained {version.label}")
    calibration.require_retrains([model_facts(each, "floor") for each in floor], reference)
    return measure_floor(session, slices, reference, floor, key, settings)
