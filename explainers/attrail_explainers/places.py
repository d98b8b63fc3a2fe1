"""How an activation carries places: as a grid, as a grid with its channels last, or as tokens in raster order."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum
from math import isqrt

import torch

MOST_PREFIX = 8  # class, distillation and register tokens before the places


class Form(StrEnum):
    """Where the places are in an activation of one image."""

    GRID = "(C,h,w)"
    CHANNELS_LAST = "(h,w,C)"
    TOKENS = "(prefix + h*w, C)"


@dataclass(frozen=True)
class Places:
    """``rows`` times ``columns`` places with ``channels`` numbers each; ``prefix`` tokens before them have no place."""

    form: Form
    rows: int
    columns: int
    channels: int
    prefix: int = 0

    def grid(self, activations: torch.Tensor) -> torch.Tensor:
        """Activations (N,...) of this form as (N,C,h,w)."""
        if self.form is Form.GRID:
            return activations
        if self.form is Form.TOKENS:
            activations = activations[:, self.prefix :].unflatten(1, (self.rows, self.columns))
        return activations.movedim(-1, 1)


@dataclass(frozen=True)
class TargetLayer:
    """A submodule whose activations carry places; ``linear`` when the logits are linear in their mean over places."""

    name: str
    places: Places
    linear: bool


def arrangements(
    shape: tuple[int, ...], size: tuple[int, int], seen: Collection[tuple[int, int]] = ()
) -> Iterator[Places]:
    """The ways to read an activation of one image, the likeliest first; ``size`` is the image's (H,W).

    A grid must divide the image as strides do. Of several possible prefixes those come first that leave a grid which
    was ``seen`` elsewhere in the model, then the shortest.
    """
    if len(shape) == 3:
        if fits((shape[1], shape[2]), size):
            yield Places(Form.GRID, shape[1], shape[2], shape[0])
        if fits((shape[0], shape[1]), size):
            yield Places(Form.CHANNELS_LAST, shape[0], shape[1], shape[2])
    if len(shape) == 2:
        options = [(prefix, grid) for prefix in range(MOST_PREFIX + 1) for grid in _grids(shape[0] - prefix, size)]
        for prefix, (rows, columns) in sorted(options, key=lambda option: option[1] not in seen):
            yield Places(Form.TOKENS, rows, columns, shape[1], prefix)


def fits(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether one stride turns ``size`` (H,W) into ``grid`` (h,w), both above 1 and rounded up or down."""
    (rows, columns), (height, width) = grid, size
    if min(grid) < 2 or rows > height or columns > width:
        return False
    if height == width:
        return rows == columns
    least = max(height / (rows + 1), width / (columns + 1))
    most = min(height / (rows - 1), width / (columns - 1))
    return least < most and (rows - columns) * (height - width) >= 0


def _grids(count: int, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Grids of ``count`` places that fit the image's ``size``, the best proportioned first."""
    if count < 4:
        return
    sides = [side for side in range(2, isqrt(count) + 1) if count % side == 0]
    pairs = {(side, count // side) for side in sides} | {(count // side, side) for side in sides}
    ratio = size[0] / size[1]
    yield from sorted((pair for pair in pairs if fits(pair, size)), key=lambda pair: abs(pair[0] / pair[1] / ratio - 1))
