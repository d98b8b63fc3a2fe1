"""Share bounds: how far a model's shares lie beyond those of all other models of its recipe anyway."""

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


def share_bounds(shares: Array, images: int, tail: float) -> tuple[Array, Array]:
    """Lower and upper bounds (C,) of one more model's shares of C clusters, from the ``shares`` (M,C) of M models.

    Every model has a cluster in which it exceeds all others most. One more model of the kind exceeds all others in any
    cluster by more than the bound with probability ``tail``, and lies below all of them likewise: the t-prediction
    bound m + t s sqrt(1 + 1/M) (Hahn & Meeker 1991, ch. 4) on the models' largest excesses, never below one that was
    seen. Taking the largest of all clusters holds for all of them together (Westfall & Young 1993, single step), and
    holds too where every training brings a strategy of its own, which bounds for each cluster by itself mistake for
    news: at 5 %, 5.6 % of 630 audits of the benchmark's honest models lay beyond; with Bonferroni over clusters, up
    to 38 % of those of Grad-CAM on small ViTs. Excesses are differences of asin(sqrt((x + 3/8) / (n +
    3/4))), whose spread does not depend on the share (Anscombe, Biometrika 1948); s is at least the spread that
    counting ``images`` has by itself, sqrt(1 / (4 n + 2)).
    """
    angles = np.arcsin(np.sqrt((shares * images + 3 / 8) / (images + 3 / 4)))
    low, high = _beyond(-angles, images, tail), _beyond(angles, images, tail)
    return _share(angles.min(axis=0) - low, images), _share(angles.max(axis=0) + high, images)


def _beyond(angles: Array, images: int, tail: float) -> float:
    """By how much one more model exceeds all of these (M,C) in any cluster."""
    count = len(angles)
    others = [np.delete(angles, row, axis=0).max(axis=0) for row in range(count)]
    largest = (angles - np.stack(others)).max(axis=1)
    spread = max(float(largest.std(ddof=1)), np.sqrt(1 / (4 * images + 2)))
    bound = largest.mean() + stats.t.isf(tail, count - 1) * spread * np.sqrt(1 + 1 / count)
    return float(max(bound, largest.max(), 0.0))


def _share(angles: Array, images: int) -> Array:
    found = np.sin(angles.clip(0, np.pi / 2)) ** 2 * (images + 3 / 4) - 3 / 8
    return np.asarray((found / images).clip(0, 1))
