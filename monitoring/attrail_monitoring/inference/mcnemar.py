"""McNemar's exact test: whether a yes-or-no fact about images holds more often for one version than for the other."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from attrail_explainers.errors import ConfigError


@dataclass(frozen=True)
class McNemar:
    """Images on which the fact held for the first version alone, for the second alone, and the test's p-value."""

    only_first: int
    only_second: int
    p_value: float


def mcnemar(
    first: NDArray[np.bool_], second: NDArray[np.bool_], alternative: Literal["two-sided", "greater"] = "two-sided"
) -> McNemar:
    """Exact McNemar test (1947) on paired indicators (N,), such as "this image has no map".

    Only images on which the versions differ inform it: one half of them is expected on either side. "greater" asks
    whether the fact holds more often for the second. Without any such image p is 1.
    """
    if first.shape != second.shape:
        raise ConfigError(f"expected two indicators of the same images, got {first.shape} and {second.shape}")
    gone, new = int((first & ~second).sum()), int((second & ~first).sum())
    p_value = float(binomtest(new, gone + new, alternative=alternative).pvalue) if gone + new else 1.0
    return McNemar(gone, new, p_value)
