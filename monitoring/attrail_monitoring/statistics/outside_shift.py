"""Mass that moved out of, or into, the region where the evidence belongs."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class OutsideShift:
    """Change of the mean share of absolute mass outside each image's region, 0..1.

    Only where the slice has masks. As the relevance mass accuracy of Arras et al. (Information Fusion 2022), whose
    complement it takes; ``terms`` gets the mass inside and outside as two cells (N,1,2).
    """

    upper: ClassVar[float] = 1.0
    primary: ClassVar[bool] = False
    regional: ClassVar[bool] = True

    def terms(self, reference: Array, candidate: Array) -> Array:
        return _outside(candidate) - _outside(reference)

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(np.abs(mean_terms[..., 0]).clip(0, self.upper))


def _outside(maps: Array) -> Array:
    """Share (N,1) of absolute mass in the last cell."""
    flat = np.abs(maps.reshape(len(maps), -1))
    mass = flat.sum(axis=1)
    return np.asarray(np.divide(flat[:, -1], mass, out=np.zeros_like(mass), where=mass > 0))[:, None]


STATISTIC = OutsideShift
