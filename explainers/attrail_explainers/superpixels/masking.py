"""Copies of an image with some of its superpixels replaced by a baseline."""

import numpy as np
import torch
from numpy.typing import NDArray


class Mosaic:
    """An image (C,H,W) float32 and the ``baseline`` (C,H,W) that takes the place of removed ``segments`` (H,W).

    Pixels are chosen by their bits, in the channels-last order in which models read them: exactly the pixels of one or
    the other, and a quarter of the time that ``torch.where`` takes with a mask that is broadcast over channels.
    """

    def __init__(self, image: torch.Tensor, baseline: torch.Tensor, segments: NDArray[np.int64]) -> None:
        self._baseline = _bits(baseline)
        self._change = torch.bitwise_xor(_bits(image), self._baseline)
        self._place = torch.from_numpy(segments.ravel()).to(image.device)

    def keeping(self, rows: NDArray[np.bool_]) -> torch.Tensor:
        """Copies (M,C,H,W) that keep the superpixels of each row (M,S) and show the baseline in the others."""
        chosen = torch.from_numpy(-rows.T.astype(np.int32, order="C")).to(self._place.device)  # all bits or none
        pixels = torch.nn.functional.embedding(self._place, chosen).T.contiguous()
        shape = (len(rows), 1, *self._change.shape[2:])
        return torch.bitwise_and(pixels.view(shape), self._change).bitwise_xor_(self._baseline).view(torch.float32)


def _bits(image: torch.Tensor) -> torch.Tensor:
    return image.detach().unsqueeze(0).contiguous(memory_format=torch.channels_last).view(torch.int32)
