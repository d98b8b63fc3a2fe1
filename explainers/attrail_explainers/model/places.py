"""How an activation carries places: as a grid, as a grid with its channels last, or as tokens in raster order."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import isqrt

import torch

MOST_PREFIX = 10  # class, distillation and register tokens beside the places; timm's C-RADIOv4 has ten


class Form(StrEnum):
    """Where the places are in an activation of one image."""

    GRID = "(C,h,w)"
    CHANNELS_LAST = "(h,w,C)"
    TOKENS = "(prefix + h*w + suffix, C)"


@dataclass(frozen=True)
class Places:
    """``rows`` times ``columns`` places with ``channels`` numbers each.

    Tokens that have no place stand before (``prefix``) or after them (``suffix``), as registers do in some models.
    """

    form: Form
    rows: int
    columns: int
    channels: int
    prefix: int = 0
    suffix: int = 0

    @property
    def span(self) -> slice:
        """Which tokens have a place."""
        return slice(self.prefix, self.prefix + self.rows * self.columns)

    def grid(self, activations: torch.Tensor) -> torch.Tensor:
        """Activations (N,...) of this form as (N,C,h,w)."""
        if self.form is Form.GRID:
            return activations
        if self.form is Form.TOKENS:
            activations = activations[:, self.span].unflatten(1, (self.rows, self.columns))
        return activations.movedim(-1, 1)


@dataclass(frozen=True)
class TargetLayer:
    """A submodule whose activations carry places; ``linear`` when the logits are linear in their mean over places."""

    name: str
    places: Places
    linear: bool


def arrangements(shape: tuple[int, ...], size: tuple[int, int]) -> Iterator[Places]:
    """The ways to read an activation of one image that has more than tokens; ``size`` is the image's (H,W).

    A grid must divide the image as strides do.
    """
    if len(shape) == 3:
        if fits((shape[1], shape[2]), size):
            yield Places(Form.GRID, shape[1], shape[2], shape[0])
        if fits((shape[0], shape[1]), size):
            yield Places(Form.CHANNELS_LAST, shape[0], shape[1], shape[2])


def token_arrangements(
    shape: tuple[int, int], size: tuple[int, int], seen: Collection[tuple[int, int]] = ()
) -> list[Places]:
    """The ways to read tokens (T,C) of one image; ``size`` is the image's (H,W), ``seen`` are grids of other layers.

    A convolution's grid is that of the tokens made from it, whatever its strides; only without one are there others.
    """
    tokens, channels = shape
    prefixes = range(MOST_PREFIX + 1)
    made = [(prefix, grid) for prefix in prefixes for grid in seen if grid[0] * grid[1] == tokens - prefix]
    made = [(prefix, grid) for prefix, grid in made if min(grid) > 1]
    found = made or [(prefix, grid) for prefix in prefixes for grid in _grids(tokens - prefix, size)]
    return [Places(Form.TOKENS, rows, columns, channels, prefix) for prefix, (rows, columns) in found]


def otherwise(places: Places) -> list[Places]:
    """The other ways to read tokens as one grid: with fewer of those that have no place before it, and more after."""
    others = places.prefix + places.suffix
    return [
        replace(places, prefix=others - after, suffix=after) for after in range(others + 1) if after != places.suffix
    ]


def likeliest(found: Sequence[Places], size: tuple[int, int], counts: Collection[int]) -> list[Places]:
    """Of several ways to read as many tokens those to go by: one, or all that nothing tells apart.

    Whole patches come first: one stride that divides both sides of the image. Then come as many places as another layer
    has tokens (``counts``), fewer than these: prefix tokens join those of the patches.
    """
    whole = [each for each in found if _divides((each.rows, each.columns), size)] or list(found)
    return [each for each in whole if each.prefix + each.suffix and each.rows * each.columns in counts] or whole


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


def _divides(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    (rows, columns), (height, width) = grid, size
    return height % rows == 0 and width % columns == 0 and height // rows == width // columns


def _grids(count: int, size: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Grids of ``count`` places that fit the image's ``size``, the best proportioned first."""
    if count < 4:
        return
    sides = [side for side in range(2, isqrt(count) + 1) if count % side == 0]
    pairs = {(side, count // side) for side in sides} | {(count // side, side) for side in sides}
    ratio = size[0] / size[1]
    yield from sorted((pair for pair in pairs if fits(pair, size)), key=lambda pair: abs(pair[0] / pair[1] / ratio - 1))
