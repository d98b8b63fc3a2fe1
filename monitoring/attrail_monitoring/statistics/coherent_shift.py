"""Coherent shift: how far the evidence moved in the same direction on all images together."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_monitoring.maps.shares import shares

Array = NDArray[np.float64]


class CoherentShift:
    """Total variation of the mean of paired differences of mass-normalised maps, 0..1.

    Each map is divided by its absolute sum; differences that point everywhere cancel, a common move (onto a corner
    mark, say) stays. It sees shortcuts that per-image distances miss because a retrain moves maps about as far, only
    not all the same way.
    """

    upper: ClassVar[float] = 1.0
    primary: ClassVar[bool] = True

    def terms(self, reference: Array, candidate: Array) -> Array:
        return shares(candidate) - shares(reference)

    def value(self, mean_terms: Array) -> Array:
        return np.asarray((0.5 * np.abs(mean_terms).sum(axis=-1)).clip(0, self.upper))  # rounding may pass 1


STATISTIC = CoherentShift
