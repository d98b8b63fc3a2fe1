"""Verdicts, findings and the report that holds them."""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from attrail_monitoring.verdict.agreement import Agreement
from attrail_monitoring.verdict.decision_measurement import DecisionMeasurement
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.moved_images import MovedImages


class Verdict(StrEnum):
    """The three answers: PASS needs evidence of sameness, DRIFT evidence of a move, all else is INCONCLUSIVE.

    ::

        if report.verdict is Verdict.DRIFT:
            print(report.reason)
    """

    PASS = "PASS"  # noqa: S105 - no password
    DRIFT = "DRIFT"
    INCONCLUSIVE = "INCONCLUSIVE"


@dataclass(frozen=True)
class Finding:
    """A measurement judged by a policy.

    ``bound`` is the noise floor's upper bound and ``margin`` the policy's (None where there is none), ``limit`` the
    larger of the two. ``p_value`` is the chance that one more model of the floor moves as far; ``adjusted`` the same at
    the lower end of the interval, adjusted for all hypotheses: a flag needs it to be at most alpha. ``strict`` says
    that the flag holds at the strict level too, ``unfit`` that the explainer cannot measure here, so that the finding
    does not count, ``hides`` that a class would be flagged if the maps that the candidate lost had moved. ``step`` says
    what would decide an open finding, "" where that is not known::

        flagged = [each.measurement.statistic for each in report.findings if each.verdict is Verdict.DRIFT]
    """

    measurement: Measurement
    bound: float | None
    margin: float | None
    limit: float | None
    p_value: float | None
    adjusted: float | None
    verdict: Verdict
    strict: bool
    reason: str
    unfit: bool = False
    hides: bool = False
    step: str = ""

    @property
    def times_floor(self) -> float | None:
        """The distance in units of the floor's mean."""
        mean = self.measurement.floor.mean
        return self.measurement.value / mean if mean and not math.isnan(self.measurement.value) else None

    def row(self) -> dict[str, Any]:
        """A flat row for tables and JSON: the measurement, ``floor`` as its bound, and the judgement."""
        measured = self.measurement
        return {
            "slice": measured.slice,
            "explainer": measured.explainer,
            "statistic": measured.statistic,
            "stratum": measured.stratum,
            "primary": measured.primary,
            "value": _number(measured.value),
            "lower": _number(measured.lower),
            "upper": _number(measured.upper),
            "worst": _number(measured.worst),
            "floor": self.bound,
            "floor_distances": list(measured.floor.distances),
            "floor_tier": measured.floor.tier,
            "margin": self.margin,
            "limit": self.limit,
            "p_value": self.p_value,
            "adjusted_p": self.adjusted,
            "times_floor": self.times_floor,
            "verdict": self.verdict.value,
            "strict": self.strict,
            "reason": self.reason,
            "n": measured.n,
            "undefined": measured.undefined,
            "lost": measured.lost,
            "lost_p": measured.lost_p,
            "unfit": self.unfit,
        }


@dataclass(frozen=True)
class DecisionFinding:
    """A measurement of decisions, judged by a policy; the fields are those of ``Finding``.

    ``p_value`` is the chance of such a value, of one more model of the floor or without one of a true value at the
    margin; ``adjusted`` the same at the lower end of the interval, for all hypotheses about decisions: a flag needs
    alpha at most, strict times alpha without a floor. ``unfit`` says that without a floor nothing can be said of it,
    so that the loss of accuracy is judged without it.
    """

    measurement: DecisionMeasurement
    bound: float | None
    margin: float
    limit: float
    p_value: float | None
    adjusted: float | None
    verdict: Verdict
    reason: str
    step: str = ""
    unfit: bool = False

    def row(self) -> dict[str, Any]:
        """A flat row for the record."""
        measured = self.measurement
        return {
            "slice": measured.slice,
            "statistic": measured.statistic,
            "stratum": measured.stratum,
            "value": measured.value,
            "lower": measured.lower,
            "upper": measured.upper,
            "reference": measured.reference,
            "candidate": measured.candidate,
            "words": measured.words,
            "n": measured.n,
            "floor": self.bound,
            "floor_values": list(measured.floor.values),
            "floor_models": list(measured.floor.models),
            "floor_tier": measured.floor.tier,
            "margin": self.margin,
            "limit": self.limit,
            "p_value": self.p_value,
            "adjusted_p": self.adjusted,
            "verdict": self.verdict.value,
            "reason": self.reason,
            "unfit": self.unfit,
        }


@dataclass(frozen=True)
class DriftReport:
    """The verdict on one candidate, why, and every finding behind it; ``policy_digest`` names the judging policy.

    ``level`` is the share of the policy's alpha for each of the primary ``hypotheses``: each floor bound's own chance.
    ``agreements`` are what the explainers see together, ``moved`` the single images that moved, ``decisions`` what is
    found of the versions' decisions, where they are known. ``next_step`` says what
    to do about a verdict that is open or has no floor under it, "" where there is nothing to add::

        report = compare(champion_maps, candidate_maps, floor=retrain_maps)
        print(report.verdict, report.reason, report.next_step)
    """

    verdict: Verdict
    reason: str
    findings: tuple[Finding, ...]
    policy_digest: str
    level: float
    hypotheses: int
    agreements: tuple[Agreement, ...] = ()
    moved: tuple[MovedImages, ...] = ()
    next_step: str = ""
    decisions: tuple[DecisionFinding, ...] = ()


def _number(value: float) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if math.isfinite(value) else None
