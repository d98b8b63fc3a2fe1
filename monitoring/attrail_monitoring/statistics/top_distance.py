"""How much of the strongest tenth of one map is missing from the other's."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
SHARE = 0.1


class TopDistance:
    """Mean over images of 1 - |top tenth of A and of B| / |top tenth| (top-k overlap), 0..1.

    What a reviewer sees first: whether the hot spots are the same cells. Of equal values the upper left is taken first,
    in both maps alike.
    """

    upper: ClassVar[float] = 1.0
    primary: ClassVar[bool] = False

    def terms(self, reference: Array, candidate: Array) -> Array:
        first, second = _top(reference), _top(candidate)
        shared = (first & second).sum(axis=1) / first.sum(axis=1)
        return np.asarray(1 - shared)[:, None]

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(mean_terms[..., 0])


def _top(maps: Array) -> NDArray[np.bool_]:
    """(N,H*W) True on the strongest tenth of each map, at least one cell."""
    flat = maps.reshape(len(maps), -1)
    count = max(1, round(SHARE * flat.shape[1]))
    order = np.argsort(-flat, axis=1, kind="stable")[:, :count]
    found = np.zeros(flat.shape, dtype=np.bool_)
    np.put_along_axis(found, order, True, axis=1)
    return found


STATISTIC = TopDistance
