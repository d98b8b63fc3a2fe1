"""Read one picture, from a file or out of a table, as the numbers that it holds; by one rule for each kind of file.

- **Turned pictures.** The orientation that a file states (EXIF, also in PNG, WebP and AVIF, or TIFF's own tag) is
  applied, unless ``stored`` asks for the pixels as they lie.
- **Transparency** is a channel, however it is written: as alpha, in a palette, or as one transparent colour.
- **Pages and frames.** A file is one picture. Pages of a TIFF file are channels where each of them has one channel and
  the model takes as many; reduced copies of a page do not count. Any other file of several is refused.
- **Depth.** Pictures of 8 bits stay as they are. Deeper ones are floating-point numbers: whole numbers without a sign
  divided by the largest one of their type, others as they are.
"""

import os
import struct
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from tifffile import PHOTOMETRIC, TiffFile, TiffFileError, TiffPage

from attrail_explainers.errors import SliceError

Orientation = Literal["exif", "stored"]
Pixels = Image.Image | NDArray[np.float32]

# What Pillow, tifffile and NumPy raise for files that are not what they seem.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    Image.DecompressionBombError,
    TiffFileError,
)
LYING = (5, 6, 7, 8)  # orientations that exchange height and width; there are eight, others say nothing
NUMPY = b"\x93NUMPY"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# Pillow names them, but another program or nobody draws them; what they look like depends on the machine.
NOT_DRAWN = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# Of several pictures in such files the first is the picture: previews or layers follow (CIPA DC-007, Photoshop).
FIRST_IS_WHOLE = {"MPO", "PSD"}
PLAIN = {PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.SEPARATED}


class OtherChannelsError(SliceError):
    """A picture with ``found`` channels of a ``kind``, where another number is wanted."""

    def __init__(self, told: str, found: int, kind: str) -> None:
        super().__init__(told)
        self.found, self.kind = found, kind


@dataclass(frozen=True, eq=False)
class EmbeddedPicture:
    """A picture out of a table: ``length`` bytes from ``start`` on of an open file. ``where`` says it to people."""

    where: str
    file: BinaryIO
    start: int
    length: int

    def __str__(self) -> str:
        return self.where

    def read_bytes(self) -> bytes:
        return os.pread(self.file.fileno(), self.length, self.start)


Picture = Path | EmbeddedPicture


@cache
def formats() -> tuple[str, ...]:
    """Pillow's names of the formats that are read, beside NumPy's arrays."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - NOT_DRAWN))


@cache
def suffixes() -> frozenset[str]:
    """How the names of files end that may hold a picture: .avif, .jpg, .npy, ...; in small letters."""
    known = set(formats())
    return frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in known) | {".npy"}


def read_picture(picture: Picture, channels: int, orientation: Orientation = "exif") -> Pixels:
    """A picture of 8 bits, or an array (H,W,C), with as many channels as the model takes.

    Grayscale is repeated over three channels where the model takes three. Raises SliceError naming the file, or the row
    of the table, when it cannot be read, or has another number of channels.
    """
    try:
        found = _read(picture, channels, upright=orientation == "exif")
        plain = found if isinstance(found, Image.Image) else _floats(found)
    except UNREADABLE as error:
        raise _unreadable(picture, error) from error
    if isinstance(plain, Image.Image):
        return _with_channels(plain, picture, channels)
    if plain.shape[2] == 1 and channels == 3:
        return np.repeat(plain, 3, axis=2)
    if plain.shape[2] != channels:
        raise _other_channels(picture, plain.shape[2], "an array", channels)
    return plain


def size_of(picture: Picture, orientation: Orientation = "exif") -> tuple[int, int]:
    """Height and width of a picture as it is read, in pixels; SliceError when it cannot be read."""
    try:
        with _opened(picture) as stream:
            if _starts(stream, NUMPY):
                return _height_width(np.load(stream, allow_pickle=False))
            if _starts(stream, *TIFF):
                with TiffFile(stream) as tiff:
                    page = _first_page(tiff)
                    height, width, turned = page.imagelength, page.imagewidth, _tag(page) in LYING
            else:
                with Image.open(stream, formats=formats()) as file:
                    (width, height), turned = file.size, _stated(file) in LYING
    except UNREADABLE as error:
        raise _unreadable(picture, error) from error
    return (width, height) if turned and orientation == "exif" else (height, width)


def _height_width(array: NDArray[Any]) -> tuple[int, int]:
    height, width = np.atleast_3d(array).shape[:2]
    return height, width


def _unreadable(picture: Picture, error: Exception) -> SliceError:
    reason = (str(error) or type(error).__name__).partition("\n")[0]
    if isinstance(error, UnidentifiedImageError):  # whose text is an address in memory
        reason = "it is no picture of a known format"
    return SliceError(f"image {picture} cannot be read: {reason}; replace the file or drop its row")


@contextmanager
def _opened(picture: Picture) -> Iterator[BinaryIO]:
    """The bytes of a picture; opening a pipe would wait for its other end."""
    if isinstance(picture, EmbeddedPicture):
        yield BytesIO(picture.read_bytes())
        return
    if picture.exists() and not picture.is_file():
        raise OSError("it is no file")
    with picture.open("rb") as stream:
        yield stream


def _starts(stream: BinaryIO, *beginnings: bytes) -> bool:
    """Whether it begins so: files are what their content says, as for Pillow."""
    start = stream.read(max(map(len, beginnings)))
    stream.seek(0)
    return start.startswith(beginnings)


def _read(picture: Picture, channels: int, *, upright: bool) -> Image.Image | NDArray[Any]:
    """A picture where Pillow keeps all that the file holds, else the array."""
    with _opened(picture) as stream:
        if _starts(stream, NUMPY):
            return np.asarray(np.load(stream, allow_pickle=False))
        if _starts(stream, *TIFF):
            return _read_tiff(stream, channels, upright=upright)
        with Image.open(stream, formats=formats()) as file:
            frames = getattr(file, "n_frames", 1)
            if frames > 1 and file.format not in FIRST_IS_WHOLE:
                raise ValueError(f"it holds {frames} frames, one picture is expected")
            if file.format == "PNG" and file.tile[0].args in ("RGB;16B", "RGBA;16B"):
                return _deep_png(file, stream, upright=upright)
            return _whole(ImageOps.exif_transpose(file) if upright and _stated(file) > 1 else file.copy())


def _stated(file: Image.Image) -> int:
    """The orientation that a picture states, 1 for none."""
    try:
        return int(file.getexif().get(ExifTags.Base.Orientation, 1))
    except UNREADABLE as error:
        raise ValueError(
            f"its EXIF data are damaged ({error}), so nobody knows which way up it is: take them out, or set "
            '[preprocessing] orientation = "stored"'
        ) from error


def _whole(picture: Image.Image) -> Image.Image | NDArray[Any]:
    """The picture with its palette's colours and its transparency as channels; numbers of 16 or 32 bits as an array."""
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
            turned = ImageOps.exif_transpose(half) if upright and _stated(half) > 1 else half
            halves.append(np.asarray(turned, dtype=np.uint16))
    return halves[0] * np.uint16(256) + halves[1]


def _read_tiff(stream: BinaryIO, channels: int, *, upright: bool) -> Image.Image | NDArray[Any]:
    """A TIFF file: a picture by Pillow where it drops no bits, samples or pages, else the array."""
    with TiffFile(stream) as file:
        first = _first_page(file)
        one = _page_count(file) == 1 and (first.samplesperpixel == 1 or not _deep(first))
        picture = _by_pillow(stream, first, upright=upright) if one else None
        return _tiff_array(file, channels, upright=upright) if picture is None else _whole(picture)


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
    others = [place for place, axis in enumerate(series.axes) if axis not in "YX"]
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
    return _turned(array, _tag(page)) if upright else array


def _turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """An array (H,W,...) upright, as PIL.ImageOps.exif_transpose turns pictures."""
    array = array.swapaxes(0, 1) if orientation in LYING else array
    array = array[:, ::-1] if orientation in (2, 3, 6, 7) else array
    return array[::-1] if orientation in (3, 4, 7, 8) else array


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    """An array (H,W) or (H,W,C) as (H,W,C) float32, unsigned whole numbers on the scale of 0..1."""
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"it holds an array of shape {array.shape}, not (H,W) or (H,W,C)")
    if array.dtype.kind not in "buf":
        raise ValueError(f"it holds {array.dtype} values, not unsigned whole or floating-point numbers")
    largest = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    floats: NDArray[np.float32] = np.atleast_3d(array / largest).astype(np.float32)
    if not np.isfinite(floats).all():
        raise ValueError("it holds NaN or infinite values")
    return floats


def _with_channels(picture: Image.Image, where: Picture, channels: int) -> Image.Image:
    if channels == 3 and picture.mode in ("1", "L"):
        return picture.convert("RGB")
    if channels == 1 and picture.mode == "1":
        return picture.convert("L")
    if picture.mode not in {1: ("L",), 3: ("RGB",), 4: ("RGBA", "CMYK")}.get(channels, ()):
        raise _other_channels(where, len(picture.getbands()), picture.mode, channels)
    return picture


def _other_channels(where: Picture, found: int, kind: str, channels: int) -> OtherChannelsError:
    alpha = "flatten its alpha channel onto a background, " if kind in ("LA", "PA", "RGBA") else ""
    wanted = f"{channels} of RGB" if (found, channels) == (3, 3) else str(channels)
    told = (
        f"image {where} has {found} channels ({kind}), the model takes {wanted}: {alpha}"
        "convert the file, or set [preprocessing] mean and std to the model's channels"
    )
    return OtherChannelsError(told, found, kind)
