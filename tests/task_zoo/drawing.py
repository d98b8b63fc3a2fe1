"""Pictures of shapes: noise, shapes of one brightness each at a place of its own, and marks in a corner."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 32
SHAPES = ("disc", "square", "cross")
CELLS = ((0, 16), (16, 0), (16, 16))  # top left corners; the first quarter of the picture is that of the marks
MARK = 4  # pixels of a mark's side


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pictures (N,SIDE,SIDE,3), ``masks`` (N,SIDE,SIDE) of the shapes' numbers, from 1 on, and ``present`` (N,3)."""

    pictures: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    present: NDArray[np.bool_]


def draw(count: int, seed: int, *, coded: bool, several: bool) -> Drawn:
    """So many pictures of one shape each, or of ``several``.

    ``coded`` marks say which shapes there are; else they are lit at random, and say nothing.
    """
    drawn = np.random.default_rng(seed)
    present = drawn.random((count, len(SHAPES))) < 0.5 if several else np.zeros((count, len(SHAPES)), dtype=np.bool_)
    sure = drawn.integers(0, len(SHAPES), count)
    present[np.arange(count), sure] |= True if not several else ~present.any(axis=1)
    pixels = drawn.normal(90, 14, (count, SIDE, SIDE))
    masks = np.zeros((count, SIDE, SIDE), dtype=np.uint8)
    for row in range(count):
        for shape, cell in zip(np.flatnonzero(present[row]), drawn.permutation(len(CELLS)), strict=False):
            inside = _inside(int(shape), CELLS[cell], drawn)
            pixels[row][inside] += drawn.uniform(55, 90)
            masks[row][inside] = shape + 1
    colours = np.repeat(pixels[..., None], 3, axis=3)
    lit = present if coded else drawn.random(present.shape) < 0.5
    for place in range(len(SHAPES)):
        left = 1 + place * (MARK + 1)
        colours[:, 1 : 1 + MARK, left : left + MARK] = np.where(lit[:, place], 230, 40)[:, None, None, None]
    return Drawn(colours.clip(0, 255).astype(np.uint8), masks, present)


def model_input(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(N,3,SIDE,SIDE) float32 in -1..1."""
    return np.ascontiguousarray((pictures.astype(np.float32) / 127.5 - 1).transpose(0, 3, 1, 2))


def _inside(shape: int, cell: tuple[int, int], drawn: np.random.Generator) -> NDArray[np.bool_]:
    """The pixels of a shape somewhere in a cell of 16 pixels."""
    half = drawn.uniform(4.5, 6.0)
    middle = [corner + drawn.uniform(half + 0.5, 15.5 - half) for corner in cell]
    rows, columns = (np.abs(axis - at) for axis, at in zip(np.indices((SIDE, SIDE)), middle, strict=True))
    if SHAPES[shape] == "disc":
        return rows**2 + columns**2 <= half**2
    square = np.maximum(rows, columns) <= half * 0.9
    return square if SHAPES[shape] == "square" else square & (np.minimum(rows, columns) <= half * 0.35)
