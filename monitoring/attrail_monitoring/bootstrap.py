"""Bootstrap intervals over images."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def bootstrap_interval(
    terms: Array, value: Callable[[Array], Array], upper: float, confidence: float, resamples: int, seed: int
) -> tuple[float, float]:
    """Two-sided basic bootstrap interval (Davison & Hinkley 1997, 5.2) of a function of the mean of terms (N,D).

    The basic interval reflects the resampling distribution about the estimate, which undoes most of the upward bias
    of total variation in small slices. It is widened to hold the estimate itself: the floor's distances carry the
    same bias, and an estimate beyond a limit must not pass below it. It covers the choice of images only, not the
    choice of training seed.
    """
    count = len(terms)
    generator = np.random.default_rng(seed)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=resamples) / count
    resampled = value(weights @ terms)
    estimate = float(value(terms.mean(axis=0)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    lower, higher = np.clip([2 * estimate - high, 2 * estimate - low], 0, upper)
    return min(float(lower), estimate), max(float(higher), estimate)
