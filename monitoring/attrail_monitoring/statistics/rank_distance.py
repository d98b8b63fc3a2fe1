"""Paired per-image distance: one minus Spearman's rank correlation of the two maps of an image."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Array = NDArray[np.float64]


class RankDistance:
    """Mean over images of 1 - Spearman (Spearman 1904; for maps: Adebayo et al., NeurIPS 2018), 0..2.

    Sees evidence that moves to a different place in every image, which statistics of mean maps cannot see. Two
    constant maps agree (0); a constant map and one that varies do not (1).
    """

    upper: ClassVar[float] = 2.0
    primary: ClassVar[bool] = True

    def terms(self, reference: Array, candidate: Array) -> Array:
        first, second = _centred_ranks(reference), _centred_ranks(candidate)
        squares = (first**2).sum(axis=1) * (second**2).sum(axis=1)
        products = (first * second).sum(axis=1)
        same = (first == second).all(axis=1)
        distance = 1 - np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0)
        return np.asarray(np.where(same, 0.0, distance).clip(0, self.upper)[:, None])

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(mean_terms[..., 0])


def _centred_ranks(maps: Array) -> Array:
    ranks = rankdata(maps.reshape(len(maps), -1), axis=1)
    return np.asarray(ranks - ranks.mean(axis=1, keepdims=True))


STATISTIC = RankDistance
