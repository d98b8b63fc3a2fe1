"""Superpixels: the parts of an image that perturbation methods switch on and off."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import slic

from attrail_explainers.errors import ConfigError


@dataclass(frozen=True)
class Segmentation:
    """SLIC superpixels (Achanta et al., TPAMI 2012) with scikit-image.

    ``segments`` is the wanted number; ``compactness`` weighs nearness against colour (scikit-image's scale).
    The same pixels always give the same segments: SLIC starts from a grid and draws nothing at random.
    """

    segments: int = 32
    compactness: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.segments, int) or self.segments < 1:
            raise ConfigError(f"segments must be a whole number of at least 1, not {self.segments!r}")
        if not isinstance(self.compactness, int | float) or not self.compactness > 0:
            raise ConfigError(f"compactness must be a number above 0, not {self.compactness!r}")

    def segment(self, image: NDArray[np.float32]) -> NDArray[np.int64]:
        """Segment labels (H,W), 0..S-1 without gaps, of an image (C,H,W) on any scale."""
        lowest, highest = float(image.min()), float(image.max())
        plain = (image - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(image)
        pixels = np.moveaxis(plain, 0, -1).astype(np.float64)
        colour = pixels.shape[-1] == 3
        # Gray images span 0..1, Lab ones 0..100: the same compactness would turn gray segments into a chessboard.
        compactness = self.compactness if colour else self.compactness / 100
        labels = slic(pixels, self.segments, compactness, convert2lab=colour, start_label=0, channel_axis=-1)
        return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)
