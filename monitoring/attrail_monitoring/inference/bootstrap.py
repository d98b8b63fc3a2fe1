"""Bootstrap intervals over images."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
BLOCK = 2**20  # images drawn at once


def bootstrap_interval(
    terms: Array,
    value: Callable[[Array], Array],
    upper: float,
    confidence: float,
    resamples: int,
    seed: int,
    least: float = 0.0,
) -> tuple[float, float]:
    """Two-sided basic bootstrap interval (Davison & Hinkley 1997, 5.2) of a function of the mean of terms (N,D).

    The function's values lie between ``least`` and ``upper``.

    The basic interval reflects the resampling distribution about the estimate, which undoes most of the upward bias
    of total variation in small slices. It is widened to hold the estimate itself: the floor's distances carry the
    same bias, and an estimate beyond a limit must not pass below it. It covers the choice of images only, not the
    choice of training seed.
    """
    generator = np.random.default_rng(seed)
    resampled = np.concatenate([value(weights @ terms) for weights in _weights(len(terms), resamples, generator)])
    estimate = float(value(terms.mean(axis=0)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    lower, higher = np.clip([2 * estimate - high, 2 * estimate - low], least, upper)
    return min(float(lower), estimate), max(float(higher), estimate)


def _weights(count: int, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """The share of each image in each resample (block,count), in blocks so that memory is bounded.

    Counting drawn rows takes a tenth of the time of numpy's multinomial, which draws a binomial for every image.
    """
    block = max(1, BLOCK // count)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = generator.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count) / count
