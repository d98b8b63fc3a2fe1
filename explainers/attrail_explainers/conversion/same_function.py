"""Are two models the same function: what both answer to the same images, held against each other."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.conversion.outputs import Arrays


@dataclass(frozen=True)
class SameFunction:
    """How far the export's outputs lie from the pickled module's: at most ``difference``, of outputs up to ``largest``.

    ``images`` were asked about, ``noise`` of them seeded noise; ``tolerance`` is the share of ``largest`` that was
    allowed.
    """

    images: int
    noise: int
    largest: float
    difference: float
    tolerance: float

    def __str__(self) -> str:
        """The check in words."""
        asked = f"{self.noise} images of noise" + (
            f" and {self.images - self.noise} of the slices" if self.images > self.noise else ""
        )
        return (
            f"on {asked}, outputs up to {self.largest:.3g} differ by {self.difference:.1e} at most "
            f"({self.tolerance:.1e} of the largest is allowed)"
        )


def distance(expected: Arrays, found: Arrays) -> tuple[bool, float]:
    """Whether the outputs have the same shapes, and the largest difference; NaN and infinities must be in place."""
    if [each.shape for each in expected] != [each.shape for each in found]:
        return False, math.inf
    pairs = list(zip(expected, found, strict=True))
    if not all(np.array_equal(np.isfinite(one), np.isfinite(other)) for one, other in pairs):
        return True, math.inf
    return True, max(float(np.abs(np.subtract(*map(_plain, pair))).max(initial=0.0)) for pair in pairs)


def largest(arrays: Arrays) -> float:
    """The largest finite output, whatever its sign."""
    return max(float(np.abs(_plain(each)).max(initial=0.0)) for each in arrays)


def _plain(array: NDArray[Any]) -> NDArray[np.float64]:
    return np.nan_to_num(array.astype(np.float64), posinf=0.0, neginf=0.0)
