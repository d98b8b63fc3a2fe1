"""Bootstrap intervals over images."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Images = NDArray[np.str_]
BLOCK = 2**20  # images drawn at once


def bootstrap_interval(  # noqa: PLR0913 - what it is of, and how it is drawn
    terms: Array,
    value: Callable[[Array], Array],
    upper: float,
    confidence: float,
    resamples: int,
    seed: int,
    least: float = 0.0,
    *,
    images: Images | None = None,
) -> tuple[float, float]:
    """Two-sided basic bootstrap interval (Davison & Hinkley 1997, 5.2) of a function of the mean of terms (N,D).

    The function's values lie between ``least`` and ``upper``. ``images`` (N,) names the image that each row of terms is
    about, where several are about one: they stand together, and images are drawn with all of their rows (the
    randomised cluster bootstrap, Field & Welsh 2007). Rows of an image are no independent witnesses: taken for such,
    intervals are too narrow.

    The basic interval reflects the resampling distribution about the estimate, which undoes most of the upward bias
    of total variation in small slices. It is widened to hold the estimate itself: the floor's distances carry the
    same bias, and an estimate beyond a limit must not pass below it. It covers the choice of images only, not the
    choice of training seed.
    """
    generator = np.random.default_rng(seed)
    drawn = (
        _weights(len(terms), resamples, generator)
        if images is None
        else _weights_of_images(numbers_of(images), resamples, generator)
    )
    resampled = np.concatenate([value(weights @ terms) for weights in drawn])
    estimate = float(value(terms.mean(axis=0)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    lower, higher = np.clip([2 * estimate - high, 2 * estimate - low], least, upper)
    return min(float(lower), estimate), max(float(higher), estimate)


def numbers_of(images: Images) -> NDArray[np.int64]:
    """The number (N,) of the image that each row is about, counted in their order; rows of an image stand together."""
    found = np.asarray(images)
    return np.concatenate([[0], np.cumsum(found[1:] != found[:-1])])[: len(found)].astype(np.int64)


def _weights_of_images(numbers: NDArray[np.int64], resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """The share of each row in each resample (block,N) of images, whose rows are drawn as one."""
    count = int(numbers[-1]) + 1
    block = max(1, BLOCK // len(numbers))
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = generator.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count)[:, numbers]
        yield times / times.sum(axis=1, keepdims=True)


def _weights(count: int, resamples: int, generator: np.random.Generator) -> Iterator[Array]:
    """The share of each image in each resample (block,count), in blocks so that memory is bounded.

    Counting drawn rows takes a tenth of the time of numpy's multinomial, which draws a binomial for every image.
    """
    block = max(1, BLOCK // count)
    for start in range(0, resamples, block):
        rows = min(block, resamples - start)
        drawn = generator.integers(0, count, (rows, count)) + count * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * count).reshape(rows, count) / count
