"""Scales: where the values of a few models scatter evenly, so that a bound can be told from their mean and spread."""

from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
SMALLEST = 1e-9
LARGEST_LOG = 700.0  # keeps a bound finite at any level


class Scale(StrEnum):
    """What values are measured on before mean and spread are taken.

    LOG for distances, which scatter by factors; ANGLE for shares 0..1 that may be none at all, arcsin of the root
    (Anscombe 1948); PLAIN for differences, which may be negative.
    """

    LOG = "log"
    ANGLE = "angle"
    PLAIN = "plain"

    def of(self, values: ArrayLike) -> Array:
        """Values on this scale."""
        found = np.asarray(values, dtype=np.float64)
        if self is Scale.LOG:
            return np.asarray(np.log(np.maximum(found, SMALLEST)))
        return np.asarray(np.arcsin(np.sqrt(found.clip(0, 1)))) if self is Scale.ANGLE else found

    def back(self, value: float) -> float:
        """The value that lies at a place on this scale, the nearest there is."""
        if self is Scale.LOG:
            return float(np.exp(min(value, LARGEST_LOG)))
        return float(np.sin(np.clip(value, 0, np.pi / 2)) ** 2) if self is Scale.ANGLE else value

    def least_spread(self, images: int) -> float:
        """The smallest standard deviation that can be told of shares of so many images, on this scale.

        The models of a floor may agree to the image by luck: that of a binomial share where the scale makes it the
        same for all shares, else one image.
        """
        if self is Scale.LOG:
            return SMALLEST
        return 0.5 / images**0.5 if self is Scale.ANGLE else 1 / images
