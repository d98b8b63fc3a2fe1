"""Models that normalise inside and take pixels as they are stored: whole numbers of 0 to 255."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.slice import Preprocessing

HIGHEST = 255.0


@dataclass(frozen=True)
class Pixels:
    """What turns images (N,C,H,W) back into the pixels that a model takes.

    Images come as (pixel / 255 - mean) / std, so that versions with and without a normalisation of their own are asked
    about the same ones, masked and blurred in the same places. Without ``mean`` and ``std`` they are pixels already.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1 / HIGHEST,)

    @classmethod
    def of(cls, preprocessing: Preprocessing | None) -> "Pixels":
        """Pixels behind this preprocessing; without one, images are taken for pixels."""
        return cls() if preprocessing is None else cls(preprocessing.mean, preprocessing.std)

    def levels(self, images: torch.Tensor) -> torch.Tensor:
        """Images as numbers of 0 to 255 that need not be whole, so that a gradient leads back to them."""
        mean, std = (images.new_tensor(each)[:, None, None] for each in (self.mean, self.std))
        return (images * std + mean) * HIGHEST

    def whole(self, images: torch.Tensor) -> torch.Tensor:
        """Images as pixels, uint8: what lies between two levels becomes the nearer one."""
        return self.levels(images).round().clamp(0, HIGHEST).to(torch.uint8)

    def array(self, images: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The same of an array (N,C,H,W)."""
        return np.asarray(self.whole(torch.from_numpy(np.array(images))).numpy())
