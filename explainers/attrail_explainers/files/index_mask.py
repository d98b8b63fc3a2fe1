"""Masks of class indices: a picture whose numbers are classes and no colours, as segmentation's data sets have them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from attrail_explainers.errors import SliceError
from attrail_explainers.files.orientation import Orientation, stated_orientation
from attrail_explainers.files.picture_source import UNREADABLE, Picture, formats, opened, starts_with, unreadable

IGNORED = (
    255  # of places that belong to no class, as in Pascal VOC and Cityscapes; white where a mask is black and white
)
NUMPY = b"\x93NUMPY"
PLAIN = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")  # Pillow's modes of one whole number for each pixel


def read_indices(picture: Picture, orientation: Orientation = "exif") -> NDArray[np.int64]:
    """The numbers (H,W) of a mask as its file holds them, of a palette the numbers and not the colours.

    Raises SliceError naming a file that cannot be read or holds more than one whole number for each pixel.
    """
    try:
        held = _read(picture, upright=orientation == "exif")
    except UNREADABLE as error:
        raise unreadable(picture, error) from error
    if held.ndim != 2 or held.dtype.kind not in "biu":
        raise SliceError(
            f"mask {picture} holds {held.dtype} of shape {held.shape}, expected one whole number for each pixel: save "
            "it as a grayscale or palette PNG file of class indices, or of 255 on the zone and 0 elsewhere"
        )
    return held.astype(np.int64) * (IGNORED if held.dtype.kind == "b" else 1)


def classes_in(mask: NDArray[Any], share: float) -> list[int]:
    """The classes that take up at least a share of a mask (H,W) of class indices, in order."""
    found, counts = np.unique(mask[mask != IGNORED], return_counts=True)
    return [int(label) for label, count in zip(found, counts, strict=True) if count >= share * mask.size]


def _read(picture: Picture, *, upright: bool) -> NDArray[Any]:
    with opened(picture) as stream:
        if starts_with(stream, NUMPY):
            return np.asarray(np.load(stream, allow_pickle=False))
        with Image.open(stream, formats=formats()) as file:
            frames = getattr(file, "n_frames", 1)
            if frames > 1:
                raise ValueError(f"it holds {frames} frames, one mask is expected")
            turned = ImageOps.exif_transpose(file) if upright and stated_orientation(file) > 1 else file
            pixels = np.asarray(turned)
            return pixels if file.mode in PLAIN else np.atleast_3d(pixels)
