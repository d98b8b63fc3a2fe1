"""Paired per-image distance: one minus Spearman's rank correlation of the two maps of an image."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.rank_agreement import spearman

Array = NDArray[np.float64]


class RankDistance:
    """Mean over images of 1 - Spearman (Spearman 1904; for maps: Adebayo et al., NeurIPS 2018), 0..2.

    Sees evidence that moves to a different place in every image, which statistics of mean maps cannot see. Two
    constant maps agree (0); a constant map and one that varies do not (1).
    """

    upper: ClassVar[float] = 2.0
    primary: ClassVar[bool] = True

    def terms(self, reference: Array, candidate: Array) -> Array:
        return np.asarray(1 - spearman(reference, candidate))[:, None]

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(mean_terms[..., 0])


STATISTIC = RankDistance
