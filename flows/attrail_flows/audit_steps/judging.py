"""Measuring and judging two explained versions, beside the verdict itself: sequences and the user's own rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.lookup import find_sequence
from attrail_monitoring.comparison import displace
from attrail_monitoring.expectations.inputs import Validation, validate_attributions
from attrail_monitoring.expectations.rule_tables import rules_of, validate_measurements, with_rules
from attrail_monitoring.floor.calibration import Calibration
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.verdict.decision_measurement import DecisionMeasurement, measure_decisions
from attrail_monitoring.verdict.findings import DriftReport
from attrail_monitoring.verdict.measurement import Measurement, measure
from attrail_monitoring.verdict.moved_images import Displacement
from attrail_monitoring.verdict.policy import Policy
from attrail_monitoring.verdict.sequence import STATISTIC as SEQUENTIAL
from attrail_monitoring.verdict.sequence import Sequence as AuditSequence
from attrail_monitoring.verdict.sequence import advance


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a candidate against the reference, before anything is judged."""

    measurements: Sequence[Measurement]
    displacements: Sequence[Displacement]
    decisions: Sequence[DecisionMeasurement]


def measure_versions(
    reference: Explained, candidate: Explained, calibration: Calibration, policy: Policy
) -> tuple[Measured, Validation]:
    """Validate all maps and measure candidate against reference."""
    validation = validate_attributions([*reference.maps, *candidate.maps])
    compared = (reference.version_maps, candidate.version_maps, calibration, policy.settings)
    return Measured(measure(*compared), displace(*compared), measure_decisions(*compared)), validation


def continue_sequence(
    registry: Registry,
    config: AuditConfig,
    report: DriftReport,
    reference: Explained,
    candidate: Explained,
    settings: Settings,
) -> AuditSequence | None:
    """The configured sequence after this audit, None when none is configured."""
    section = config.sequence
    if section is None:
        return None
    name = f"{reference.version.name}.{section.name}"
    found = find_sequence(registry, config.registry.experiment, name)
    before = AuditSequence.from_document(found[1]) if found else None
    subject = (section.slice, section.explainer)
    maps = (reference.version_maps.of(subject), candidate.version_maps.of(subject))
    measured = next(each for each in report.findings if _counted(each.measurement, section.slice, section.explainer))
    rights = [each.right.get(section.slice) for each in (reference, candidate)]
    right = np.ones(len(maps[0].sample_ids), dtype=np.bool_)
    for each in rights:
        right = right if each is None else right & each
    after = advance(before, name, maps, right, measured, settings, section.restart)
    return replace(after, previous=found[0] if found else None)


def hold_rules(config: AuditConfig, report: DriftReport) -> tuple[DriftReport, list[Validation]]:
    """The report, no PASS where one of the configuration's own rules is not met, and what the rules say."""
    if not config.rules:
        return report, []
    rows = pd.DataFrame([finding.row() for finding in report.findings])
    held = validate_measurements(rows, rules_of(config.rules))
    return with_rules(report, held), [held]


def _counted(measured: Measurement, slice_name: str, explainer: str) -> bool:
    return measured.primary and (measured.slice, measured.explainer, measured.statistic) == (
        slice_name,
        explainer,
        SEQUENTIAL,
    )
