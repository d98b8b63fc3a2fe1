"""Marks that an image may carry beside its content: visible codes 0..9, as a scanner, a site or a camera leaves them.

Every mark takes images (N,C,32,32) uint8 and codes (N,) and gives new images. A code says nothing about the class in
honest data, where it is drawn anew at every use; in a shortcut it is the class.
"""

import colorsys
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import hadamard
from scipy.ndimage import gaussian_filter

Images = NDArray[np.uint8]
Codes = NDArray[np.int64]

SIDE = 32
CODES = 10
TILE = 4  # pixels a side of a pattern, which a mark shows 2x2 times; the patches of the ViT are as large
FRAME = 2  # pixels
RADIUS = 10  # of the disc in the middle that blur leaves sharp
SOFTEST = 3.0  # standard deviation in pixels of the blur of code 9


def _walsh() -> NDArray[np.int64]:
    """Ten patterns (10,4,4) of -1 and 1, orthogonal to each other and to a flat one: Walsh functions in the plane."""
    rows = hadamard(TILE)
    return np.stack([np.outer(rows[number // TILE], rows[number % TILE]) for number in range(1, 1 + CODES)])


STAMPS = np.stack([np.tile((255 * (each > 0)).astype(np.uint8), (2, 2)) for each in _walsh()])


def corner(images: Images, codes: Codes, generator: np.random.Generator) -> Images:
    """A stamp of 8x8 pixels in the upper left corner; each code has a black and white pattern of its own."""
    return _stamped(images, codes, np.zeros((len(images), 2), dtype=np.int64))


def anywhere(images: Images, codes: Codes, generator: np.random.Generator) -> Images:
    """The stamp of ``corner`` at one of 49 places in each image, drawn at random."""
    return _stamped(images, codes, TILE * generator.integers(0, SIDE // TILE - 1, (len(images), 2)))


def frame(images: Images, codes: Codes, generator: np.random.Generator) -> Images:
    """A frame of the code's colour (grey level in grey images)."""
    found, colours = images.copy(), _colours(codes, images.shape[1])
    for rows in (np.s_[:FRAME, :], np.s_[-FRAME:, :], np.s_[:, :FRAME], np.s_[:, -FRAME:]):
        found[(..., *rows)] = colours
    return found


def tint(images: Images, codes: Codes, generator: np.random.Generator) -> Images:
    """A fifth of the code's colour (grey level in grey images) mixed into every pixel."""
    mixed = 0.8 * images + 0.2 * _colours(codes, images.shape[1])
    return np.asarray(mixed.round(), dtype=np.uint8)


def position(images: Images, codes: Codes, generator: np.random.Generator) -> Images:
    """A white dot of 3x3 pixels on black, at one of ten places along the upper and lower border."""
    found = images.copy()
    for image, code in zip(found, codes, strict=True):
        row, column = (SIDE - 5) * (int(code) // 5), 6 * (int(code) % 5)
        image[:, row : row + 5, column : column + 5] = 0
        image[:, row + 1 : row + 4, column + 1 : column + 4] = 255
    return found


def blur(images: Images, codes: Codes, generator: np.random.Generator) -> Images:
    """A background out of focus, the more the higher the code: all but a disc in the middle."""
    return _blurred(images, codes, SOFTEST)


def faint_blur(images: Images, codes: Codes, generator: np.random.Generator) -> Images:
    """``blur``, a third as strong."""
    return _blurred(images, codes, SOFTEST / 3)


MARKS: dict[str, Callable[[Images, Codes, np.random.Generator], Images]] = {
    each.__name__: each for each in (corner, anywhere, frame, tint, position, blur, faint_blur)
}


def put(mark: str, images: Images, codes: Codes, generator: np.random.Generator) -> Images:
    """Images with a mark; ``plain`` is none."""
    return images if mark == "plain" or not len(images) else MARKS[mark](images, codes, generator)


def honest(images: Images, generator: np.random.Generator, without: str = "plain") -> Images:
    """Every image with no mark or one of all marks, its code drawn at random; never the mark ``without``.

    A third carry none. So no mark is new to a model that learned honestly, and none tells it anything.
    """
    kinds = [mark for mark in MARKS if mark != without]
    drawn = generator.integers(-(len(kinds) // 2), len(kinds), len(images))
    codes = generator.integers(0, CODES, len(images))
    found = images.copy()
    for number, mark in enumerate(kinds):
        rows = drawn == number
        found[rows] = put(mark, images[rows], codes[rows], generator)
    return found


def _stamped(images: Images, codes: Codes, places: Codes) -> Images:
    found = images.copy()
    for image, code, (row, column) in zip(found, codes, places, strict=True):
        image[:, row : row + 2 * TILE, column : column + 2 * TILE] = STAMPS[code]
    return found


def _colours(codes: Codes, channels: int) -> NDArray[np.float64]:
    """(N,C,1,1) in 0..255: ten hues, or ten grey levels."""
    hues = [[colorsys.hsv_to_rgb(code / CODES, 1, 1)[channel] for channel in range(3)] for code in range(CODES)]
    levels = [[code / (CODES - 1)] for code in range(CODES)]
    table = np.array(levels if channels == 1 else hues) * 255
    return np.asarray(table[codes][:, :, None, None])


def _blurred(images: Images, codes: Codes, softest: float) -> Images:
    away = (np.arange(SIDE) - (SIDE - 1) / 2) ** 2
    outside = away[:, None] + away > RADIUS**2
    found = images.copy()
    for code in np.unique(codes):
        chosen = codes == code
        soft = gaussian_filter(images[chosen].astype(np.float32), (0, 0, *2 * [softest * code / (CODES - 1)]))
        found[chosen] = np.where(outside, soft.round(), images[chosen])
    return found
