"""Peak shift: how much evidence came to one place, or left it, on all images together."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_monitoring.maps.shares import shares

Array = NDArray[np.float64]


class PeakShift:
    """The largest change of any cell's mean share of the evidence, for and against the class apart, 0..1.

    The maximum norm where ``coherent_shift`` takes half the sum: after every fine-tune small changes all over the map
    add up to as much as a mark does, which is one large change. Over matched noise it decides in place of
    ``rank_distance``, which tells nothing of marks there.
    """

    upper: ClassVar[float] = 1.0
    primary: ClassVar[bool] = False

    def terms(self, reference: Array, candidate: Array) -> Array:
        return _for_and_against(candidate) - _for_and_against(reference)

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(np.abs(mean_terms).max(axis=-1).clip(0, self.upper))  # rounding may pass it


def _for_and_against(maps: Array) -> Array:
    """Shares (N,2*H*W) of maps (N,H,W): those of positive, then of negative cells, none below 0."""
    found = shares(maps)
    return np.concatenate([found.clip(min=0), (-found).clip(min=0)], axis=1)


STATISTIC = PeakShift
