"""Judged rows: everything that a verdict can rest on, one line each, as terminal, Prefect and report show it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.formatting import chance, number
from attrail_monitoring.inference.multiplicity import holm_levels
from attrail_monitoring.maps.strata import named
from attrail_monitoring.verdict.agreement import Agreement
from attrail_monitoring.verdict.combination import decisive
from attrail_monitoring.verdict.findings import DecisionFinding, DriftReport, Finding, Verdict
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.moved_images import MovedImages

TOGETHER = "together"
DECISIONS = "decisions"
LEFT_OUT = "left out"


@dataclass(frozen=True)
class JudgedRow:
    """One line: ``what`` was judged on which slice, ``distance`` and ``limit`` in words.

    ``explainer`` is TOGETHER where it is all of them, and DECISIONS where it is none. ``verdict`` is a Verdict's value,
    or LEFT_OUT where nothing can be said. ``decides`` marks the rows that
    the audit's verdict rests on, none for PASS, which rests on all of them. ``of_class`` marks those about one class.
    """

    slice: str
    explainer: str
    what: str
    distance: str
    limit: str
    verdict: str
    decides: bool
    of_class: bool = False

    def row(self) -> dict[str, Any]:
        """The row as JSON values."""
        return asdict(self)


def judged_rows(report: DriftReport, names: Sequence[str] = ()) -> tuple[JudgedRow, ...]:
    """The rows of a report: decisions, primary statistics, what explainers see together, flagged classes, moved images.

    ``names`` are those of the model's classes.
    """
    drifting = decisive(report.findings)
    shown = [each for each in report.findings if each.measurement.primary]
    noticed = [each for each in report.findings if each.verdict is Verdict.DRIFT or each.hides]
    classes = [each for each in noticed if each.measurement.localised]
    classes.sort(key=lambda each: _distance(each.measurement), reverse=True)  # the furthest first: screens show a few
    decided = [each for each in report.decisions if not each.measurement.localised or each.verdict is Verdict.DRIFT]
    decided.sort(key=lambda each: each.measurement.localised)
    return (
        *(_of_decisions(each, report.verdict, names) for each in decided),
        *(_of_finding(each, report.verdict, each in drifting, names) for each in shown),
        *_of_agreements(report),
        *(_of_finding(each, report.verdict, each in drifting, names) for each in classes),
        *(_of_images(each, report.verdict) for each in report.moved),
    )


def _distance(measured: Measurement) -> float:
    return 0.0 if math.isnan(measured.value) else measured.value


def _of_finding(finding: Finding, verdict: Verdict, drifting: bool, names: Sequence[str]) -> JudgedRow:
    measured = finding.measurement
    of_class = f" of {named(measured.stratum, names)}" if measured.localised else ""
    return JudgedRow(
        slice=measured.slice,
        explainer=measured.explainer,
        what=f"{measured.statistic}{of_class}",
        distance=f"{number(measured.value)} ({number(measured.lower)} to {number(measured.upper)})",
        limit=_limit(finding.bound, finding.margin, _kind(measured.floor)),
        verdict=LEFT_OUT if finding.unfit else finding.verdict.value,
        decides=drifting if verdict is Verdict.DRIFT else not finding.unfit and _decides(finding.verdict, verdict),
        of_class=measured.localised,
    )


def _of_decisions(finding: DecisionFinding, verdict: Verdict, names: Sequence[str]) -> JudgedRow:
    measured = finding.measurement
    of_class = f" of {named(measured.stratum, names)}" if measured.localised else ""
    return JudgedRow(
        slice=measured.slice,
        explainer=DECISIONS,
        what=f"{measured.statistic}{of_class}",
        distance=f"{number(measured.value)} ({number(measured.lower)} to {number(measured.upper)})",
        limit=_limit(finding.bound, finding.margin),
        verdict=LEFT_OUT if finding.unfit else finding.verdict.value,
        decides=not finding.unfit and _decides(finding.verdict, verdict),
        of_class=measured.localised,
    )


def _of_agreements(report: DriftReport) -> Iterator[JudgedRow]:
    found = report.agreements
    levels: list[float | None] = [None] * len(found)
    if found and found[0].level is not None:
        levels = holm_levels([each.p_value for each in found], found[0].level).tolist()
    for each, level in zip(found, levels, strict=True):
        yield JudgedRow(
            slice=each.slice,
            explainer=TOGETHER,
            what=each.statistic,
            distance=f"{number(each.value)} ({number(each.lower)} up)",
            limit=_limit(None if level is None else each.floor.bound(level), each.margin, _kind(each.floor)),
            verdict=_verdict(each).value,
            decides=_decides(_verdict(each), report.verdict),
        )


def _of_images(moved: MovedImages, verdict: Verdict) -> JudgedRow:
    found = _verdict(moved) if moved.images else Verdict.INCONCLUSIVE  # of none nobody can say that none moved
    return JudgedRow(
        slice=moved.slice,
        explainer=TOGETHER if len(moved.explainers) > 1 else moved.explainers[0],
        what="single images",
        distance=f"{len(moved.samples)} of {moved.images} moved",
        limit=f"p {chance(moved.adjusted)} / {moved.level:g}",
        verdict=found.value,
        decides=_decides(found, verdict),
    )


def _verdict(found: Agreement | MovedImages) -> Verdict:
    """What a joint hypothesis says by itself."""
    if found.flagged:
        return Verdict.DRIFT
    return Verdict.INCONCLUSIVE if found.hides else Verdict.PASS


def _decides(found: Verdict, verdict: Verdict) -> bool:
    """Whether a row is why the audit is DRIFT, or stands between it and PASS."""
    return found is Verdict.DRIFT if verdict is Verdict.DRIFT else found is not Verdict.PASS


def _limit(bound: float | None, margin: float | None, kind: str = "floor") -> str:
    """The limit, and what it comes from."""
    if bound is None and margin is None:
        return "none"
    return (
        f"{number(bound)} {kind}"
        if (bound or 0.0) >= (margin or 0.0) and bound is not None
        else f"{number(margin)} margin"
    )


def _kind(floor: NoiseFloor) -> str:
    return {"M": "noise", "D": "surrogates"}.get(floor.tier, "floor")
