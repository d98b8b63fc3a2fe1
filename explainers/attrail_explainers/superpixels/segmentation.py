"""Superpixels: the parts of an image that perturbation methods switch on and off."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import slic

from attrail_explainers.parameters import require_positive, require_whole


@dataclass(frozen=True)
class Segmentation:
    """SLIC superpixels (Achanta et al., TPAMI 2012) with scikit-image.

    ``segments`` is the wanted number; ``compactness`` weighs nearness against colour (scikit-image's scale for colour
    images). Three channels are taken for colour and compared in Lab; any other number of channels, whose meaning
    is not known, are plain features of equal weight. Where SLIC finds fewer than two superpixels, as in noise, a
    regular grid takes their place. The same pixels always give the same segments: nothing is drawn at random.
    """

    segments: int = 32
    compactness: float = 10.0

    def __post_init__(self) -> None:
        require_whole("segments", self.segments, 1)
        require_positive("compactness", self.compactness)

    def segment(self, image: NDArray[np.float32]) -> NDArray[np.int64]:
        """Segment labels (H,W), 0..S-1 without gaps, of an image (C,H,W) on any scale."""
        labels = self._slic(image)
        return labels if labels.max() > 0 else self.grid((labels.shape[0], labels.shape[1]))

    def grid(self, size: tuple[int, int]) -> NDArray[np.int64]:
        """Labels of a regular grid over (H,W) with about the wanted number of nearly square cells."""
        height, width = size
        rows = min(height, max(1, round(math.sqrt(self.segments * height / width))))
        columns = min(width, max(1, round(self.segments / rows)))
        row, column = np.arange(height) * rows // height, np.arange(width) * columns // width
        return np.asarray(row[:, None] * columns + column, dtype=np.int64)

    def _slic(self, image: NDArray[np.float32]) -> NDArray[np.int64]:
        lowest, highest = float(image.min()), float(image.max())
        plain = (image - lowest) / (highest - lowest) if highest > lowest else np.zeros_like(image)
        pixels = np.moveaxis(plain, 0, -1).astype(np.float64)
        channels = pixels.shape[-1]
        # From black to white is a step of 100 in Lab but of sqrt(channels) here: colour's compactness would turn the
        # superpixels of gray images into a chessboard (scikit-image#5093).
        compactness = self.compactness * (1 if channels == 3 else math.sqrt(channels) / 100)
        labels = slic(pixels, self.segments, compactness, convert2lab=channels == 3, start_label=0, channel_axis=-1)
        return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def segment_diagnostics(segments: NDArray[np.int64]) -> dict[str, float]:
    """How an image (H,W) was cut: the number of ``segments`` and the ``smallest_segment`` in pixels."""
    sizes = np.bincount(segments.ravel())
    return {"segments": float(len(sizes)), "smallest_segment": float(sizes.min())}


def is_grid(segments: NDArray[np.int64]) -> bool:
    """Whether all borders between superpixels (H,W) run straight through the image, so that they follow nothing."""
    across, down = np.diff(segments, axis=0) != 0, np.diff(segments, axis=1) != 0
    return bool((across == across[:, :1]).all() and (down == down[:1]).all())
