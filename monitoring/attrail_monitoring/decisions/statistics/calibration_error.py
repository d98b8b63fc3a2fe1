"""Calibration error: how much less a version's confidence says about its being right."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.formatting import percent
from attrail_monitoring.inference.bootstrap import bootstrap_interval
from attrail_monitoring.inference.scale import Scale

Array = NDArray[np.float64]
BINS = 15
IMAGES = 16  # of a bin, at the least


class CalibrationError:
    """Expected calibration error of the other version less the reference's, -1..1 (Guo et al., ICML 2017).

    The mean over bins of |accuracy - confidence|, weighted by their images. 15 bins as there, of equal numbers of
    images, which has less bias than bins of equal width (Roelofs et al., AISTATS 2022), and fewer bins where one would
    have fewer than 16 images. What bias is left is much the same for both versions. Single classes have too few images.
    """

    least: ClassVar[float] = -1.0
    upper: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("labels", "confidences")
    scale: ClassVar[Scale] = Scale.PLAIN
    margin: ClassVar[str] = "calibration_margin"
    of_classes: ClassVar[bool] = False

    def terms(self, reference: Decisions, other: Decisions) -> Array:
        return np.concatenate([_gaps(reference), _gaps(other)], axis=1)

    def value(self, mean_terms: Array) -> Array:
        half = mean_terms.shape[-1] // 2
        first, second = (np.abs(each).sum(axis=-1) for each in (mean_terms[..., :half], mean_terms[..., half:]))
        return np.asarray(second - first)

    def interval(self, terms: Array, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
        return bootstrap_interval(terms, self.value, self.upper, confidence, resamples, seed, least=self.least)

    def level(self, decisions: Decisions) -> float | None:
        return float(np.abs(_gaps(decisions).mean(axis=0)).sum())

    def chance(self, terms: Array, margin: float) -> float | None:
        return None

    def words(self, value: float, reference: float | None, other: float | None) -> str:
        moved = "rose" if value > 0 else "fell" if value < 0 else "stayed"
        levels = f"from {percent(reference)} to {percent(other)}" if value else f"at {percent(reference)}"
        return f"calibration error {moved} {levels}"


def _gaps(decisions: Decisions) -> Array:
    """Rightness less confidence of each image, in the column of its bin (N,bins).

    Bins end at quantiles of the confidence: images that are equally sure share one.
    """
    sure = np.asarray(decisions.confidences)
    bins = max(1, min(BINS, len(sure) // IMAGES))
    ends = np.quantile(sure, np.linspace(0, 1, bins + 1))[1:-1]
    gaps = np.zeros((len(sure), bins))
    gaps[np.arange(len(sure)), np.searchsorted(ends, sure)] = np.asarray(decisions.right) - sure
    return gaps


STATISTIC = CalibrationError
