"""Where a picture lies, what is read as one, and what is said of one that cannot be read."""

import os
import struct
import tokenize
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError
from tifffile import TiffFileError

from attrail_explainers.errors import SliceError

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
# Pillow names them, but another program or nobody draws them; what they look like depends on the machine.
NOT_DRAWN = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


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
        """Return the picture's bytes, as ``Path.read_bytes`` does; the file's own position stays."""
        return os.pread(self.file.fileno(), self.length, self.start)


Picture = Path | EmbeddedPicture


@cache
def formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats that are read, beside NumPy's arrays."""
    Image.init()
    return tuple(sorted(set(Image.OPEN) - NOT_DRAWN))


@cache
def suffixes() -> frozenset[str]:
    """Return how the names of files end that may hold a picture: .avif, .jpg, .npy, ...; in small letters."""
    known = set(formats())
    return frozenset(suffix for suffix, form in Image.registered_extensions().items() if form in known) | {".npy"}


@contextmanager
def opened(picture: Picture) -> Iterator[BinaryIO]:
    """Give the bytes of a picture as an open file; raise OSError for a pipe, which would wait for its other end."""
    if isinstance(picture, EmbeddedPicture):
        yield BytesIO(picture.read_bytes())
        return
    if picture.exists() and not picture.is_file():
        raise OSError("it is no file")
    with picture.open("rb") as stream:
        yield stream


def starts_with(stream: BinaryIO, *beginnings: bytes) -> bool:
    """Return whether an open file begins with one of ``beginnings``, and go back to its start.

    Files are what their content says, as for Pillow, whatever they are called.
    """
    start = stream.read(max(map(len, beginnings)))
    stream.seek(0)
    return start.startswith(beginnings)


def unreadable(picture: Picture, error: Exception) -> SliceError:
    """Return the error to raise for a picture that cannot be read: which, why, and what to do."""
    reason = (str(error) or type(error).__name__).partition("\n")[0]
    if isinstance(error, UnidentifiedImageError):  # whose text is an address in memory
        reason = "it is no picture of a known format"
    return SliceError(f"image {picture} cannot be read: {reason}; replace the file or drop its row")
