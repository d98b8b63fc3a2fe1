"""Checks: whether each explainer can measure, as its instrument and the policy say."""

from collections.abc import Mapping
from dataclasses import dataclass

from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.verdict.findings import Finding

DIAGNOSTICS = {
    "surrogate_r2": "R² of LIME's linear surrogate on its evaluations",
    "emulator_r2": "R² of the emulator on evaluations left out",
    "completeness_residual": "what SHAP values miss of the change of the log odds",
    "noise": "standard deviation of the values, as a share of their spread",
}


@dataclass(frozen=True)
class SanityRow:
    """One primary statistic: ``repeat`` as a share of the floor, distance of the random head and of the furthest model.

    ``ceiling`` is the distance of maps without relation. The result is "passed", "left out" or "not checked".
    """

    finding: Finding
    repeat: float | None
    random_head: float | None
    furthest: float | None
    ceiling: float | None
    result: str


@dataclass(frozen=True)
class ExplainerChecks:
    """The checks of one explainer on one slice, and what it reports of itself: words and a median over images."""

    slice: str
    explainer: str
    checks: tuple[SanityRow, ...]
    diagnostics: Mapping[str, float]


def checks_of(record: AuditRecord) -> list[ExplainerChecks]:
    """The checks of every explainer with a primary finding."""
    found: dict[tuple[str, str], list[Finding]] = {}
    for finding in record.report.findings:
        if finding.measurement.primary:
            found.setdefault((finding.measurement.slice, finding.measurement.explainer), []).append(finding)
    checks = []
    for place, findings in found.items():
        sanity = record.instrument(*place) or ExplainerSanity()
        diagnostics = {DIAGNOSTICS.get(name, name): value for name, value in sanity.diagnostics.items()}
        checks.append(ExplainerChecks(*place, tuple(_check(finding, sanity) for finding in findings), diagnostics))
    return checks


def _check(finding: Finding, known: ExplainerSanity) -> SanityRow:
    measured, floor = finding.measurement, finding.measurement.floor
    repeat = known.repeat.get(measured.statistic)
    checked = floor.mean is not None and (repeat is not None or measured.statistic in known.random_head)
    return SanityRow(
        finding=finding,
        repeat=repeat / floor.mean if repeat is not None and floor.mean else None,
        random_head=known.random_head.get(measured.statistic),
        furthest=max(floor.distances, default=None),
        ceiling=known.ceiling(measured.statistic),
        result="left out" if finding.unfit else "passed" if checked else "not checked",
    )
