"""Paired shares: how much more often a yes-or-no fact about images holds for one version than for the other."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binomtest, norm
from scipy.stats import t as student

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.bootstrap import Images, numbers_of

LARGEST = 1e6  # a score that stands for an infinite one


def difference_interval(only_first: int, only_second: int, images: int, confidence: float) -> tuple[float, float]:
    """Score interval (Tango 1998) of the first version's share less the second's, -1..1.

    ``only_first`` and ``only_second`` count the images on which the fact holds for one version alone. It keeps its
    confidence in small samples too, with counts of 0 among them (Fagerland, Lydersen & Laake 2014). ConfigError when
    the counts are none of so many images.
    """
    _require_counts(only_first, only_second, images)
    reach, estimate = float(norm.isf((1 - confidence) / 2)), (only_first - only_second) / images

    def end(far: float, wanted: float) -> float:
        if estimate == far:
            return far
        ends = sorted((far, estimate))
        return float(brentq(lambda margin: _score(only_first, only_second, images, margin) - wanted, *ends))

    return end(-1.0, reach), end(1.0, -reach)


def chance_within(only_first: int, only_second: int, images: int, margin: float) -> float:
    """The p-value of the hypothesis that the first share exceeds the second by ``margin``, 0..1, at most.

    Tango's score test (1998), and never below McNemar's exact one, which is the test for a margin of 0: where few
    images differ, the score's normal approximation is too bold. ConfigError as above.
    """
    _require_counts(only_first, only_second, images)
    differing = only_first + only_second
    exact = float(binomtest(only_first, differing, alternative="greater").pvalue) if differing else 1.0
    return max(exact, float(norm.sf(_score(only_first, only_second, images, margin))))


def chance_by_images(terms: NDArray[np.float64], images: Images, margin: float) -> float:
    """The same p-value where several of the rows, of which ``terms`` (N,) are the first's share less the second's, are
    about one of the ``images`` (N,), which stand together.

    A t-test of the ratio of sums over images (Cochran 1977, 6.4), and never below the sign test on images, which is
    exact for a margin of 0.
    """
    numbers = numbers_of(images)
    sums, sizes = np.bincount(numbers, weights=terms), np.bincount(numbers)
    up, down, count = int((sums > 0).sum()), int((sums < 0).sum()), len(sums)
    exact = float(binomtest(up, up + down, alternative="greater").pvalue) if up + down else 1.0
    mean = float(terms.mean())
    rest = sums - mean * sizes
    error = math.sqrt(float((rest**2).sum()) * count / max(1, count - 1)) / len(terms)
    if error == 0:
        return exact if mean > margin else 1.0
    return max(exact, float(student.sf((mean - margin) / error, max(1, count - 1))))


def _score(first: int, second: int, images: int, margin: float) -> float:
    """How many standard errors the difference lies above ``margin``, under the shares that are likeliest there."""
    above = first - second - images * margin
    middle = (2 * images - first + second) * margin - first - second
    root = math.sqrt(max(middle**2 + 8 * images * second * margin * (1 - margin), 0.0))
    likeliest = (root - middle) / (4 * images)  # of the second alone
    variance = images * (2 * likeliest + margin * (1 - margin))
    if variance <= 0:
        return float(np.sign(above)) * LARGEST
    return float(np.clip(above / math.sqrt(variance), -LARGEST, LARGEST))


def _require_counts(first: int, second: int, images: int) -> None:
    if min(first, second) < 0 or images < max(1, first + second):
        raise ConfigError(f"expected counts of {images} images, got {first} and {second}")
