"""Marks: what a row of a slice asks about, as lines on its picture."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_dilation, binary_erosion

from attrail_explainers.slice import Slice
from attrail_monitoring.pictures.overlays import Pixels

Lines = NDArray[np.bool_]
Size = tuple[int, int]

LINE, EDGE = (0, 230, 70), (0, 0, 0)  # green is in no colour scale of a map; its dark edge shows it over white
WIDTH = 128  # a line is a pixel wide, and one more for each so many pixels of the picture's longer side


def lines_of(slice_: Slice, row: int, size: Size) -> Lines:
    """Where lines lie on the picture (H,W) of a row: around its zone or box; nowhere for one about the whole image."""
    found = np.zeros(size, dtype=np.bool_)
    for name, draw in DRAWN.items():
        if name in slice_.facts:
            found |= draw(slice_.facts[name][row], (slice_.images.shape[2], slice_.images.shape[3]), size)
    return found


def marked(picture: Pixels, lines: Lines) -> Pixels:
    """A picture (H,W,3) with lines (H,W) on it, edged, so that they are seen over any map."""
    found = picture.copy()
    found[binary_dilation(lines, np.ones((3, 3)))] = EDGE
    found[lines] = LINE
    return found


def outline(zone: NDArray[np.bool_], image: Size, size: Size) -> Lines:
    """The inner border of a zone (h,w), which may be coarser than the picture (H,W), where it is drawn so large."""
    height, width = size
    large = np.asarray(Image.fromarray(zone).resize((width, height), Image.Resampling.NEAREST))
    steps = 1 + max(size) // WIDTH
    return np.asarray(large & ~binary_erosion(large, np.ones((3, 3)), iterations=steps, border_value=0))


def frame(box: NDArray[np.floating], image: Size, size: Size) -> Lines:
    """The inner border of a box, (x0, y0, x1, y1) as shares, on a picture (H,W); a pixel of it is always seen."""
    height, width = size
    corners = np.asarray(box, dtype=np.float64) * [width, height, width, height]
    x0, y0 = np.minimum(np.floor(corners[:2]).astype(int), [width - 1, height - 1])
    x1, y1 = np.maximum(np.ceil(corners[2:]).astype(int), [x0 + 1, y0 + 1])
    inside = np.zeros(size, dtype=np.bool_)
    inside[y0:y1, x0:x1] = True
    return outline(inside, image, size)


# By the names of ``Slice.facts``: a fact of a row, the size of the model's images and of the picture, to lines on it.
DRAWN: Mapping[str, Callable[[Any, Size, Size], Lines]] = {"zone": outline, "box": frame}
