"""Churn: how many decisions are others."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.formatting import percent
from attrail_monitoring.inference.scale import Scale

Array = NDArray[np.float64]


class Churn:
    """Share of images whose predicted class is not the reference's, 0..1 (Milani Fard et al., NeurIPS 2016).

    Needs no labels. Its interval is Clopper's and Pearson's (1934), which is exact.
    """

    least: ClassVar[float] = 0.0
    upper: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ()
    scale: ClassVar[Scale] = Scale.ANGLE
    margin: ClassVar[str] = "churn_margin"
    of_classes: ClassVar[bool] = True

    def terms(self, reference: Decisions, other: Decisions) -> Array:
        return np.asarray(~reference.same(other), dtype=np.float64)[:, None]

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(mean_terms[..., 0])

    def interval(self, terms: Array, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
        found = binomtest(int(terms.sum()), len(terms)).proportion_ci(confidence, method="exact")
        return float(found.low), float(found.high)

    def level(self, decisions: Decisions) -> float | None:
        return None

    def chance(self, terms: Array, margin: float) -> float | None:
        return None

    def words(self, value: float, reference: float | None, other: float | None) -> str:
        return f"{percent(value)} of the predictions changed"


STATISTIC = Churn
