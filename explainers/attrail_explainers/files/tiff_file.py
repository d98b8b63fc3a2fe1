"""TIFF files: one picture, whose pages may be its channels; by Pillow where it keeps all of it, else by tifffile."""

from contextlib import suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tifffile import PHOTOMETRIC, TiffFile, TiffPage

from attrail_explainers.files.channels import all_channels
from attrail_explainers.files.orientation import LYING, turned

PLAIN = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.SEPARATED}


def read_tiff(stream: BinaryIO, channels: int, *, upright: bool) -> Image.Image | NDArray[Any]:
    """Return a TIFF file's picture where Pillow drops no bits, samples or pages, else its array (H,W) or (H,W,C).

    ``upright`` turns it as its tag says. Raises ValueError for several pictures, unless they are the ``channels`` that
    the model takes, and for numbers that are no brightness.
    """
    with TiffFile(stream) as file:
        first = _first_page(file)
        one = _page_count(file) == 1 and (first.samplesperpixel == 1 or not _deep(first))
        picture = _by_pillow(stream, first, upright=upright) if one else None
        return _tiff_array(file, channels, upright=upright) if picture is None else all_channels(picture)


def size_of_tiff(stream: BinaryIO) -> tuple[int, int, bool]:
    """Return height and width of a TIFF file's first page in pixels, and whether its tag says that it lies."""
    with TiffFile(stream) as file:
        page = _first_page(file)
        return page.imagelength, page.imagewidth, _tag(page) in LYING


def _by_pillow(stream: BinaryIO, page: TiffPage, *, upright: bool) -> Image.Image | None:
    """The only page of a TIFF file, None where Pillow cannot read it or would drop some of it."""
    stream.seek(0)
    with suppress(UnidentifiedImageError), Image.open(stream, formats=("TIFF",)) as file:
        if page.samplesperpixel <= len(file.getbands()) and not (_deep(page) and page.photometric not in PLAIN):
            picture = file.copy()
            if not upright:  # Pillow turns TIFF files, and no others, as it reads them: turn it back
                picture.getexif()[ExifTags.Base.Orientation] = {6: 8, 8: 6}.get(_tag(page), _tag(page))
                ImageOps.exif_transpose(picture, in_place=True)
            return picture
    return None


def _first_page(file: TiffFile) -> TiffPage:
    """The first page, which must be no thumbnail of another."""
    page = file.pages.first
    if page.is_reduced and len(file.pages) > 1:
        raise ValueError("its first page is a reduced copy of another: keep the page that is the picture")
    return page


def _page_count(file: TiffFile) -> int:
    """How many pictures the file holds: reduced copies are none, ImageJ writes many without a page for each."""
    full = sum(not (isinstance(page, TiffPage) and page.is_reduced) for page in file.pages)
    return max(full, len(file.series[0]) if file.is_imagej else 1)


def _tag(page: TiffPage) -> int:
    """The orientation that a page states, 1 for none."""
    return int(page.tags.valueof("Orientation", default=1))


def _deep(page: TiffPage) -> bool:
    return int(np.max(page.bitspersample)) > 8


def _tiff_array(file: TiffFile, channels: int, *, upright: bool) -> NDArray[Any]:
    """The first series of a TIFF file as (H,W,C); pages of one series are channels."""
    page, pages, series = file.pages.first, _page_count(file), file.series[0]
    if page.photometric not in PLAIN:
        colours = getattr(page.photometric, "name", page.photometric)
        raise ValueError(f"its numbers are {colours}, not gray or RGB as they are")
    others = [index for index, axis in enumerate(series.axes) if axis not in "YX"]
    array = series.asarray()
    plain = array.ndim - len(others) == 2 and len(others) <= 1
    if plain:
        # Q is an axis that tifffile could not name: written without a word about its channels, (H,W,C) looks like pages
        named = not (series.axes == "QYX" and array.shape[0] != channels == array.shape[2])
        array = np.moveaxis(array, others, [-1] * len(others)) if named else array
    if pages > 1 and not (plain and array.ndim == 3 and array.shape[2] == channels):
        instead = f", or {channels} pages of one channel each" if channels > 1 else ""
        raise ValueError(f"it holds {pages} pages, one picture is expected{instead}")
    if not plain:
        raise ValueError(f"it holds an array of shape {array.shape}, not height, width and channels")
    return turned(array, _tag(page)) if upright else array
