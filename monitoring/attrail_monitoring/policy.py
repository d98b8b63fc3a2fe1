"""Policy: the only place where a threshold is read, and the judgement it makes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_monitoring.floor import FEWEST
from attrail_monitoring.measurement import Measurement, Settings
from attrail_monitoring.statistic import make_statistic, statistic_names
from attrail_monitoring.verdict import Finding, Verdict


@dataclass(frozen=True)
class Policy:
    """What counts as drift, fixed before the run.

    ``alpha`` is the chance of a false flag the whole audit may take; it is divided by the number of primary
    hypotheses (Bonferroni). ``margins`` is, per statistic, a distance too small to matter; the noise floor's bound is
    used where it is larger. ``strict`` times the divided alpha is the level at which one explainer alone blocks.
    ``undefined_limit`` is the share of images without a map, and ``fewest_images`` the number of images, beyond and
    below which nothing can be concluded. ``targets`` is the class explained: the slice's "label" or the
    "reference" version's own top class.
    """

    alpha: float = 0.05
    strict: float = 0.1
    margins: Mapping[str, float] = field(default_factory=lambda: {"coherent_shift": 0.05})
    undefined_limit: float = 0.05
    fewest_images: int = 16
    targets: Literal["label", "reference"] = "label"
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        for name in ("alpha", "strict"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"policy: {name} must lie between 0 and 1, got {getattr(self, name)}")
        if not 0 <= self.undefined_limit <= 1:
            raise ConfigError(f"policy: undefined_limit must lie in 0..1, got {self.undefined_limit}")
        for statistic, margin in self.margins.items():
            if statistic not in statistic_names():
                raise UnknownNameError.of("statistic in policy margins", statistic, statistic_names())
            ceiling = make_statistic(statistic).upper
            if not 0 <= margin <= ceiling:
                raise ConfigError(f"policy: the margin of {statistic} must lie in 0..{ceiling:g}, got {margin}")

    @property
    def digest(self) -> str:
        return digest_of(asdict(self))

    def level(self, hypotheses: int) -> float:
        """Alpha divided by the number of primary hypotheses (Bonferroni)."""
        return self.alpha / max(1, hypotheses)

    def judge(self, measurements: Sequence[Measurement]) -> tuple[Finding, ...]:
        """A finding for each measurement."""
        level = self.level(sum(measurement.primary for measurement in measurements))
        return tuple(self._finding(measurement, level) for measurement in measurements)

    def _finding(self, measured: Measurement, level: float) -> Finding:
        margin = self.margins.get(measured.statistic)
        bound = measured.floor.bound(level)
        limit = max((number for number in (margin, bound) if number is not None), default=None)
        p_value = None if math.isnan(measured.value) else measured.floor.p_value(measured.value)
        verdict, reason = self._verdict(measured, limit)
        strict = verdict is Verdict.DRIFT and p_value is not None and p_value < self.strict * level
        return Finding(measured, bound, margin, limit, p_value, verdict, strict, reason)

    def _verdict(self, measured: Measurement, limit: float | None) -> tuple[Verdict, str]:
        missing = self._missing(measured)
        if missing is not None:
            return Verdict.INCONCLUSIVE, missing
        if limit is None:
            retrains = len(measured.floor.distances)
            reason = f"no margin is set and {retrains} reference retrains are no floor"
            return Verdict.INCONCLUSIVE, f"{reason}: give {FEWEST} or more, or a margin"
        if limit >= measured.ceiling:
            return Verdict.INCONCLUSIVE, "the limit is so wide that no move could exceed it"
        return _placed(measured, limit)

    def _missing(self, measured: Measurement) -> str | None:
        """Why there is too little evidence for any verdict, None when there is enough."""
        images = measured.n + measured.undefined
        if measured.n < self.fewest_images:
            return f"only {measured.n} images with maps in both versions; {self.fewest_images} needed"
        if measured.undefined > self.undefined_limit * images:
            return f"{measured.undefined} of {images} images have no map in one of the versions"
        return None


def _placed(measured: Measurement, limit: float) -> tuple[Verdict, str]:
    """Where the whole interval lies: beyond the limit, within it, or across it."""
    if measured.lower > limit:
        return Verdict.DRIFT, "moved further than the limit, its whole interval"
    if _worst(measured) < limit:
        return Verdict.PASS, "stayed within the limit, its whole interval"
    if measured.upper < limit:
        return Verdict.INCONCLUSIVE, f"the {measured.undefined} images without a map could have moved beyond the limit"
    return Verdict.INCONCLUSIVE, "the interval contains the limit: more images would narrow it"


def _worst(measured: Measurement) -> float:
    """The interval's upper end if every image without a map had moved as far as the statistic allows.

    Statistics are convex in the mean of per-image terms, so each such image adds at most ceiling / images. Without
    this, a candidate could pass by losing the maps of the images that moved.
    """
    images = measured.n + measured.undefined
    return measured.upper + measured.undefined * (measured.ceiling - measured.upper) / images  # exact when all have one


def combine(findings: Sequence[Finding]) -> tuple[Verdict, str]:
    """One verdict from all findings on primary statistics.

    DRIFT when, on one slice, two explainers flag it, one flags it at the strict level, or the only explainer does.
    PASS only when every primary statistic of every explainer on every slice passed. Otherwise INCONCLUSIVE.
    """
    primary = [finding for finding in findings if finding.measurement.primary]
    if not primary:
        return Verdict.INCONCLUSIVE, "no primary statistic was measured"
    for name in dict.fromkeys(finding.measurement.slice for finding in primary):
        here = [finding for finding in primary if finding.measurement.slice == name]
        explainers = {finding.measurement.explainer for finding in here}
        flagged = {finding.measurement.explainer for finding in here if finding.verdict is Verdict.DRIFT}
        strict = {finding.measurement.explainer for finding in here if finding.strict}
        if len(flagged) >= min(2, len(explainers)):
            return Verdict.DRIFT, f"on slice {name}, {_listed(flagged)} found evidence that moved beyond the limit"
        if strict:
            return Verdict.DRIFT, f"on slice {name}, {_listed(strict)} alone flagged a move, at the strict level"
    if all(finding.verdict is Verdict.PASS for finding in primary):
        return Verdict.PASS, "every primary statistic of every explainer stayed within its limit on every slice"
    lone = [finding for finding in primary if finding.verdict is Verdict.DRIFT]
    if lone:
        first = lone[0].measurement
        flag = f"{first.explainer} alone flagged {first.statistic} on slice {first.slice}"
        return Verdict.INCONCLUSIVE, f"{flag}: method-specific, asks for review"
    open_ = next(finding for finding in primary if finding.verdict is Verdict.INCONCLUSIVE)
    where = open_.measurement
    return Verdict.INCONCLUSIVE, f"{where.statistic} of {where.explainer} on slice {where.slice}: {open_.reason}"


def _listed(names: set[str]) -> str:
    ordered = sorted(names)
    return ordered[0] if len(ordered) == 1 else f"{', '.join(ordered[:-1])} and {ordered[-1]}"
