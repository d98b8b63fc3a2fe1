"""McNemar's exact test: whether a yes-or-no fact about images holds more often for one version than for the other."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.bootstrap import Images, numbers_of


@dataclass(frozen=True)
class McNemar:
    """Images on which the fact held for the first version alone, for the second alone, and the test's p-value."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(
    first: NDArray[np.bool_],
    second: NDArray[np.bool_],
    alternative: Literal["two-sided", "greater"] = "two-sided",
    images: Images | None = None,
) -> McNemar:
    """Exact McNemar test (1947) on paired indicators (N,), such as "this image has no map".

    Only images on which the versions differ inform it: one half of them is expected on either side. "greater" asks
    whether the fact holds more often for the second. Without any such image p is 1. Where several rows are about one of
    the ``images`` (N,), which stand together, the test counts images, each for what more of its rows say: they are
    independent, its rows are not.
    """
    if first.shape != second.shape:
        raise ConfigError(f"expected two indicators of the same images, got {first.shape} and {second.shape}")
    gone, new = int((first & ~second).sum()), int((second & ~first).sum())
    down, up = (gone, new) if images is None else _by_images(first, second, images)
    p_value = float(binomtest(up, down + up, alternative=alternative).pvalue) if down + up else 1.0
    return McNemar(gone, new, p_value)


def _by_images(first: NDArray[np.bool_], second: NDArray[np.bool_], images: Images) -> tuple[int, int]:
    """On how many images the fact holds in more rows for the first, and for the second."""
    more = np.bincount(numbers_of(images), weights=second.astype(np.float64) - first) if len(images) else np.zeros(0)
    return int((more < 0).sum()), int((more > 0).sum())
