"""Which way up a picture is: what its file states, and how an array is turned by that."""

from typing import Any, Literal

from numpy.typing import NDArray
from PIL import ExifTags, Image

from attrail_explainers.files.picture_source import UNREADABLE

Orientation = Literal["exif", "stored"]

LYING = (5, 6, 7, 8)  # orientations that exchange height and width; there are eight, others say nothing


def stated_orientation(file: Image.Image) -> int:
    """Return the orientation that a picture states, 1 for none; raise ValueError when its EXIF data are damaged."""
    try:
        return int(file.getexif().get(ExifTags.Base.Orientation, 1))
    except UNREADABLE as error:
        raise ValueError(
            f"its EXIF data are damaged ({error}), so nobody knows which way up it is: take them out, or set "
            '[preprocessing] orientation = "stored"'
        ) from error


def turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return an array (H,W,...) upright, as PIL.ImageOps.exif_transpose turns pictures."""
    array = array.swapaxes(0, 1) if orientation in LYING else array
    array = array[:, ::-1] if orientation in (2, 3, 6, 7) else array
    return array[::-1] if orientation in (3, 4, 7, 8) else array
