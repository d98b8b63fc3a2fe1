"""Conformal p-values: how unusual a score is among scores that are known to be usual."""

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.errors import ConfigError

Array = NDArray[np.float64]


def conformal_p_values(calibration: Array, scores: Array) -> Array:
    """(N,) of (1 + number of calibration scores at least as large) / (1 + M), for M calibration scores.

    Where a score is exchangeable with the calibration's, its p-value is at most alpha with chance at most alpha, and
    Benjamini-Hochberg on them holds its rate (Bates, Candes, Lei, Romano & Sesia 2023). Equal scores count as at least
    as large. ConfigError for NaN, which is neither large nor small.
    """
    if np.isnan(calibration).any() or np.isnan(scores).any():
        raise ConfigError("conformal p-values need scores without NaN: leave out what has none, and say how many")
    below = np.searchsorted(np.sort(calibration), scores, side="left")
    return np.asarray((1 + len(calibration) - below) / (1 + len(calibration)))
