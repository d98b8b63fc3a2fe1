"""Read one picture, from a file or out of a table, as the numbers that it holds; by one rule for each kind of file.

- **Turned pictures.** The orientation that a file states (EXIF, also in PNG, WebP and AVIF, or TIFF's own tag) is
  applied, unless ``stored`` asks for the pixels as they lie.
- **Transparency** is a channel, however it is written: as alpha, in a palette, or as one transparent colour.
- **Pages and frames.** A file is one picture. Pages of a TIFF file are channels where each of them has one channel and
  the model takes as many; reduced copies of a page do not count. Any other file of several is refused.
- **Depth.** Pictures of 8 bits stay as they are. Deeper ones are floating-point numbers: whole numbers without a sign
  divided by the largest one of their type, others as they are.
"""

from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from attrail_explainers.files.channels import Pixels, all_channels, floats, with_channels
from attrail_explainers.files.orientation import LYING, Orientation, stated_orientation
from attrail_explainers.files.picture_source import UNREADABLE, Picture, formats, opened, starts_with, unreadable
from attrail_explainers.files.tiff_file import read_tiff, size_of_tiff

NUMPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Of several pictures in such files the first is the picture: previews or layers follow (CIPA DC-007, Photoshop).
FIRST_IS_WHOLE = {"MPO", "PSD"}


def read_picture(picture: Picture, channels: int, orientation: Orientation = "exif") -> Pixels:
    """Return a picture of 8 bits, or an array (H,W,C), with as many channels as the model takes.

    Grayscale is repeated over three channels where the model takes three. Raises SliceError naming the file, or the row
    of the table, when it cannot be read, or has another number of channels.
    """
    try:
        held = _read(picture, channels, upright=orientation == "exif")
        pixels = held if isinstance(held, Image.Image) else floats(held)
    except UNREADABLE as error:
        raise unreadable(picture, error) from error
    return with_channels(pixels, picture, channels)


def size_of(picture: Picture, orientation: Orientation = "exif") -> tuple[int, int]:
    """Return height and width of a picture as it is read, in pixels; raise SliceError when it cannot be read."""
    try:
        with opened(picture) as stream:
            if starts_with(stream, NUMPY):
                height, width = np.atleast_3d(np.load(stream, allow_pickle=False)).shape[:2]
                lies = False
            elif starts_with(stream, *TIFF):
                height, width, lies = size_of_tiff(stream)
            else:
                with Image.open(stream, formats=formats()) as file:
                    (width, height), lies = file.size, stated_orientation(file) in LYING
    except UNREADABLE as error:
        raise unreadable(picture, error) from error
    return (width, height) if lies and orientation == "exif" else (height, width)


def _read(picture: Picture, channels: int, *, upright: bool) -> Image.Image | NDArray[Any]:
    """A picture where Pillow keeps all that the file holds, else the array."""
    with opened(picture) as stream:
        if starts_with(stream, NUMPY):
            return np.asarray(np.load(stream, allow_pickle=False))
        if starts_with(stream, *TIFF):
            return read_tiff(stream, channels, upright=upright)
        with Image.open(stream, formats=formats()) as file:
            frames = getattr(file, "n_frames", 1)
            if frames > 1 and file.format not in FIRST_IS_WHOLE:
                raise ValueError(f"it holds {frames} frames, one picture is expected")
            if file.format == "PNG" and file.tile[0].args in ("RGB;16B", "RGBA;16B"):
                return _deep_png(file, stream, upright=upright)
            return all_channels(
                ImageOps.exif_transpose(file) if upright and stated_orientation(file) > 1 else file.copy()
            )


def _deep_png(file: Image.Image, stream: BinaryIO, *, upright: bool) -> NDArray[np.uint16]:
    """A PNG file with 16 bits in each of several channels (H,W,C).

    Pillow keeps the high byte alone; told that the bytes come the other way round, it keeps the low one. (Torchvision's
    decoder keeps both, but dies on damaged files.)
    """
    if "transparency" in file.info:
        raise ValueError("one of its colours of 16 bits is transparent: flatten it onto a background")
    halves = []
    for order in ("16B", "16L"):
        stream.seek(0)
        with Image.open(stream, formats=("PNG",)) as half:
            half.tile = [tile._replace(args=str(tile.args).replace("16B", order)) for tile in half.tile]
            turned = ImageOps.exif_transpose(half) if upright and stated_orientation(half) > 1 else half
            halves.append(np.asarray(turned, dtype=np.uint16))
    return halves[0] * np.uint16(256) + halves[1]
