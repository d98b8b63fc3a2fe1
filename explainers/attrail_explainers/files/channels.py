"""The channels of a picture: palettes, transparency and depth, and whether they are as many as a model takes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from attrail_explainers.errors import SliceError
from attrail_explainers.files.picture_source import Picture

Pixels = Image.Image | NDArray[np.float32]


class OtherChannelsError(SliceError):
    """A picture with ``found`` channels of a ``kind``, where another number is wanted."""

    def __init__(self, told: str, found: int, kind: str) -> None:
        super().__init__(told)
        self.found, self.kind = found, kind


def all_channels(picture: Image.Image) -> Image.Image | NDArray[Any]:
    """Return the picture with its palette's colours and its transparency as channels, of 16 or 32 bits as an array.

    Raises ValueError for a transparent colour of 16 bits, which would be lost.
    """
    transparent = picture.has_transparency_data
    if picture.mode in ("P", "PA"):
        return picture.convert("RGBA" if transparent else "RGB")
    if picture.mode[0] in "FI":
        if transparent:
            raise ValueError("one of its colours of 16 bits is transparent: flatten it onto a background")
        return np.asarray(picture)
    if transparent and picture.mode in ("1", "L", "RGB"):
        return picture.convert("RGBA" if picture.mode == "RGB" else "LA")
    return picture


def floats(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return an array (H,W) or (H,W,C) as (H,W,C) float32, unsigned whole numbers on the scale of 0..1.

    Raises ValueError for other shapes, other kinds of numbers, and numbers that are not finite.
    """
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"it holds an array of shape {array.shape}, not (H,W) or (H,W,C)")
    if array.dtype.kind not in "buf":
        raise ValueError(f"it holds {array.dtype} values, not unsigned whole or floating-point numbers")
    largest = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    numbers: NDArray[np.float32] = np.atleast_3d(array / largest).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise ValueError("it holds NaN or infinite values")
    return numbers


def with_channels(pixels: Pixels, picture: Picture, channels: int) -> Pixels:
    """Return pixels with as many channels as a model takes; grayscale is repeated over three.

    Raises OtherChannelsError, which names the ``picture``, for another number of channels.
    """
    if isinstance(pixels, Image.Image):
        return _picture_with(pixels, picture, channels)
    if pixels.shape[2] == 1 and channels == 3:
        return np.repeat(pixels, 3, axis=2)
    if pixels.shape[2] != channels:
        raise _other_channels(picture, pixels.shape[2], "an array", channels)
    return pixels


def _picture_with(pixels: Image.Image, picture: Picture, channels: int) -> Image.Image:
    if channels == 3 and pixels.mode in ("1", "L"):
        return pixels.convert("RGB")
    if channels == 1 and pixels.mode == "1":
        return pixels.convert("L")
    if pixels.mode not in {1: ("L",), 3: ("RGB",), 4: ("RGBA", "CMYK")}.get(channels, ()):
        raise _other_channels(picture, len(pixels.getbands()), pixels.mode, channels)
    return pixels


def _other_channels(picture: Picture, found: int, kind: str, channels: int) -> OtherChannelsError:
    alpha = "flatten its alpha channel onto a background, " if kind in ("LA", "PA", "RGBA") else ""
    wanted = f"{channels} of RGB" if (found, channels) == (3, 3) else str(channels)
    told = (
        f"image {picture} has {found} channels ({kind}), the model takes {wanted}: {alpha}"
        "convert the file, or set [preprocessing] mean and std to the model's channels"
    )
    return OtherChannelsError(told, found, kind)
