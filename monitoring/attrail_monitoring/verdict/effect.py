"""An effect: what a finding's distance means beside the ceiling and the least that its audit could have seen."""

import math
from dataclasses import dataclass

from scipy import stats

from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.inference.power import detectable_effect
from attrail_monitoring.maps.strata import HEADLINES
from attrail_monitoring.verdict.findings import Finding
from attrail_monitoring.verdict.measurement import Measurement

POWER = 0.9


@dataclass(frozen=True)
class Effect:
    """What is known of a distance beyond itself; None where it cannot be said.

    ``ceiling`` is the distance that maps without relation reach (``ExplainerSanity.ceiling``), ``floor_to_ceiling`` the
    place of the distance between the floor's mean (0) and that ceiling (1). The others are the smallest distances that
    are flagged with 90 % power: ``detectable_by_images``, a candidate's true distance, with this many images;
    ``detectable_by_models``, the median over candidates, against a floor of this many models. Where one lies beyond
    what the statistic can reach, nothing would be flagged with that power.
    """

    ceiling: float | None = None
    floor_to_ceiling: float | None = None
    detectable_by_images: float | None = None
    detectable_by_models: float | None = None


def effect_of(finding: Finding, instrument: ExplainerSanity | None, level: float, confidence: float) -> Effect:
    """The effect of a finding that was judged at ``level``, with intervals of ``confidence``.

    The instrument was inspected on whole slices, so that other strata have no ceiling; only primary findings are
    hypotheses, so that the others have nothing to detect.
    """
    measured = finding.measurement
    ceiling = None
    if instrument is not None and measured.stratum in HEADLINES:
        ceiling = instrument.ceiling(measured.statistic)
    counted = measured.primary and finding.limit is not None
    return Effect(
        ceiling=ceiling,
        floor_to_ceiling=_place(measured, ceiling),
        detectable_by_images=_by_images(measured, finding.limit, confidence) if counted else None,
        detectable_by_models=_by_models(measured.floor, finding.limit, level) if counted else None,
    )


def _place(measured: Measurement, ceiling: float | None) -> float | None:
    """Where a distance lies from floor to ceiling, None when the ceiling is not above the floor."""
    mean = measured.floor.mean
    if ceiling is None or mean is None or ceiling <= mean or math.isnan(measured.value):
        return None
    return (measured.value - mean) / (ceiling - mean)


def _by_images(measured: Measurement, limit: float | None, confidence: float) -> float | None:
    """The limit, and above it what a paired t-test on images with the interval's spread sees."""
    if limit is None or measured.n < 2 or math.isnan(measured.value):
        return None
    alpha = (1 - confidence) / 2
    reach = (measured.upper - measured.lower) / 2
    sd = reach / float(stats.norm.isf(alpha)) * math.sqrt(measured.n)
    return limit + detectable_effect(measured.n, alpha, POWER) * sd


def _by_models(floor: NoiseFloor, limit: float | None, level: float) -> float | None:
    """What the floor shows of one more candidate; no less than the limit."""
    seen = None if limit is None else floor.detectable(level, POWER)
    return None if seen is None or limit is None else max(seen, limit)
