"""Loss of accuracy: how many more images the reference decides rightly."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.formatting import percent
from attrail_monitoring.inference.paired_shares import chance_within, difference_interval
from attrail_monitoring.inference.scale import Scale

Array = NDArray[np.float64]


class AccuracyLoss:
    """Accuracy of the reference less the other version's on the same images, -1..1; negative where it rose.

    The images that one version alone decides rightly tell of it (McNemar 1947); the interval is Tango's (1998). A loss
    on the same labelled images is counted, not estimated, so that the policy's margin may decide without a floor.
    """

    least: ClassVar[float] = -1.0
    upper: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("labels",)
    scale: ClassVar[Scale] = Scale.PLAIN
    margin: ClassVar[str] = "accuracy_margin"
    of_classes: ClassVar[bool] = True

    def terms(self, reference: Decisions, other: Decisions) -> Array:
        first, second = (np.asarray(each.right, dtype=np.float64) for each in (reference, other))
        return (first - second)[:, None]

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(mean_terms[..., 0])

    def interval(self, terms: Array, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
        return difference_interval(int((terms > 0).sum()), int((terms < 0).sum()), len(terms), confidence)

    def level(self, decisions: Decisions) -> float | None:
        return float(np.mean(decisions.right))  # type: ignore[arg-type]  # labels are needed

    def chance(self, terms: Array, margin: float) -> float | None:
        return chance_within(int((terms > 0).sum()), int((terms < 0).sum()), len(terms), margin)

    def words(self, value: float, reference: float | None, other: float | None) -> str:
        moved = "fell" if value > 0 else "rose" if value < 0 else "stayed"
        levels = f"from {percent(reference)} to {percent(other)}" if value else f"at {percent(reference)}"
        return f"accuracy {moved} {levels}"


STATISTIC = AccuracyLoss
