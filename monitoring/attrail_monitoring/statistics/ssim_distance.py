"""Structural dissimilarity of an image's two maps, as reviewers of pictures measure it."""

from functools import cache
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

Array = NDArray[np.float64]
SIGMA, TRUNCATE = 1.5, 3.5  # the window of Wang et al. 2004
LUMINANCE, CONTRAST = 0.01**2, 0.03**2  # their constants, for values in 0..1


class SsimDistance:
    """Mean over images of (1 - SSIM) / 2 (Wang, Bovik, Sheikh & Simoncelli 2004), 0..1.

    Each map is divided by twice its largest absolute value and lifted by one half: zero evidence is grey, and signs
    count. SSIM is averaged over all cells, with mirrored borders, by a Gaussian window of 1.5 cells.
    """

    upper: ClassVar[float] = 1.0
    primary: ClassVar[bool] = False

    def terms(self, reference: Array, candidate: Array) -> Array:
        similarity = _ssim(_grey(reference), _grey(candidate))
        return np.asarray(((1 - similarity) / 2).mean(axis=(1, 2)).clip(0, self.upper)[:, None])

    def value(self, mean_terms: Array) -> Array:
        return np.asarray(mean_terms[..., 0])


def _grey(maps: Array) -> Array:
    largest = np.abs(maps).max(axis=(1, 2), keepdims=True)
    return np.asarray(0.5 + np.divide(maps, largest, out=np.zeros_like(maps), where=largest > 0) / 2)


def _ssim(first: Array, second: Array) -> Array:
    means = _smoothed(first), _smoothed(second)
    variances = (_smoothed(each**2) - mean**2 for each, mean in zip((first, second), means, strict=True))
    covariance = _smoothed(first * second) - means[0] * means[1]
    above = (2 * means[0] * means[1] + LUMINANCE) * (2 * covariance + CONTRAST)
    return np.asarray(above / ((means[0] ** 2 + means[1] ** 2 + LUMINANCE) * (sum(variances) + CONTRAST)))


def _smoothed(maps: Array) -> Array:
    rows, columns = (_window(side) for side in maps.shape[1:])
    return np.asarray(rows @ maps @ columns.T)


@cache
def _window(side: int) -> Array:
    """The Gaussian window as a matrix (side,side): on grids of 14x14 two products are faster than a filter."""
    return np.asarray(gaussian_filter1d(np.eye(side), SIGMA, axis=0, mode="reflect", truncate=TRUNCATE))


STATISTIC = SsimDistance
