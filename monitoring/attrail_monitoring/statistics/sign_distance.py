"""Evidence for the class that became evidence against it, or vanished."""

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_monitoring.maps.shares import shares

Array = NDArray[np.float64]


class SignDistance:
    """Mean over images of the share of evidence on cells whose sign differs, 0..1.

    Positive, negative and zero are the three signs. A cell's evidence is its mean share of the two maps' absolute
    sums, so that faint cells count little. Sign agreement of attributions: Krishna et al., TMLR 2024.
    """

    upper: ClassVar[float] = 1.0
    primary: ClassVar[bool] = False

    def terms(self, reference: Array, candidate: Array) -> Array:
        first, second = shares(reference), shares(candidate)
        evidence = np.abs(first) + np.abs(second)
        total = evidence.sum(axis=1)
        differing = (evidence * (np.sign(first) != np.sign(second))).sum(axis=1)
        share = np.divide(differing, total, out=np.zeros_like(total), where=total > 0)
        return np.asarray(share.clip(0, self.upper)[:, None])

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(mean_terms[..., 0])


STATISTIC = SignDistance
