"""What a model returned, and the part of it that answers: a tensor, or one of a tuple, a dict or a dataclass."""

from typing import Any

import torch
from torch.utils._pytree import tree_map

from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.model.task import Task, tensors_of


class Returned:
    """Finds the outputs in what a model returns, once; afterwards they are what stands in the same ``place``.

    The task's ``output`` is the place that a configuration names, or that the reference's outputs had: a model that
    returns a lone tensor, which has no place, may still be asked.
    """

    def __init__(self, label: str, task: Task) -> None:
        self.label, self.task = label, task
        self.place: str | None = None  # "" for a lone tensor

    def part(self, returned: Any, images: torch.Tensor) -> torch.Tensor:
        """The outputs for images (N,C,H,W); raises what cannot be understood, and ConfigError for a place that is none.

        UnsupportedModelError for a model that returns nothing, or several things, that the task could be about.
        """
        if isinstance(returned, torch.Tensor) and _is_squeezed(returned, len(images)):
            self.place = ""
            return returned  # squeezed
        parts = self.task.parts(returned, images)
        if self.place is None:
            self.place = self._found(parts, returned, len(images))
        if self.place not in parts:
            raise UnsupportedModelError(self._none(returned, len(images)))
        return parts[self.place]

    def _found(self, parts: dict[str, torch.Tensor], returned: Any, images: int) -> str:
        if self.task.output is not None and self.task.output in parts:
            return self.task.output
        if not parts:
            raise UnsupportedModelError(self._none(returned, images))
        if self.task.output and set(parts) != {""}:
            raise ConfigError(
                f"output {self.task.output!r} is nothing that model {self.label} returns: choose one of {_shown(parts)}"
            )
        if len(parts) > 1:
            raise UnsupportedModelError(
                f"model {self.label} returns several things that could be meant, {_shown(parts)}: say which by output, "
                f"as in output = {next(iter(parts))!r}"
            )
        return next(iter(parts))

    def _none(self, returned: Any, images: int) -> str:
        there = _shown(tensors_of(returned)) or type(returned).__name__
        return (
            f"model {self.label}: expected {self.task.expected} for {images} images, got {there}; log a model that "
            "returns them, by themselves or in a tuple, a dict or a dataclass"
        )


def channels_first(returned: Any) -> Any:
    """What a model of images (N,H,W,C) returned, with its grids (N,h,w,C) as (N,C,h,w)."""

    def turned(each: Any) -> Any:
        return each.movedim(-1, 1) if isinstance(each, torch.Tensor) and each.ndim == 4 else each

    return tree_map(turned, returned)


def _shown(parts: dict[str, torch.Tensor]) -> str:
    """Names and shapes, for a message."""
    shapes = {name: _shape(each) for name, each in parts.items()}
    return ", ".join(f"{name!r} {shape}" if name else str(shape) for name, shape in shapes.items())


def _is_squeezed(returned: torch.Tensor, images: int) -> bool:
    return returned.is_floating_point() and returned.ndim < 2 and returned.numel() % images == 0


def _shape(part: torch.Tensor) -> str:
    """A shape, and what numbers they are where these are no floating-point ones."""
    kind = "" if part.is_floating_point() else " of " + str(part.dtype).removeprefix("torch.")
    return f"{tuple(part.shape)}{kind}"
