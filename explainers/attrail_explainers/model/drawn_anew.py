"""Weights drawn anew: which are a layer's own, and how they are replaced where parametrizations make them."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch.utils.hooks import RemovableHandle

New = Callable[[str, torch.Tensor], torch.Tensor]

PARAMETRIZATIONS = "parametrizations"  # the submodule in which torch.nn.utils.parametrize keeps what makes weights


def own_weights(module: torch.nn.Module, layer: str) -> dict[str, torch.nn.Parameter]:
    """The parameters of a submodule, by their names in the module, and not those of the layers in it.

    Those that its parametrizations (weight norm, spectral norm, orthogonal) make its weights from are its own.
    """
    submodule = module.get_submodule(layer)
    parts = {layer: submodule.named_parameters(recurse=False)}
    if PARAMETRIZATIONS in dict(submodule.named_children()):
        parts[f"{layer}.{PARAMETRIZATIONS}"] = submodule.get_submodule(PARAMETRIZATIONS).named_parameters()
    return {f"{prefix}.{name}": weight for prefix, found in parts.items() for name, weight in found}


def draw_anew(module: torch.nn.Module, names: Iterable[str], new: New) -> list[RemovableHandle]:
    """Set the parameters ``names`` of a module to ``new(name, values)``; the handles undo it for weights that are made.

    A weight that a parametrization makes is replaced as it is handed over, under the name of what makes it: not every
    number is a parameter of an orthogonal matrix, and redrawing what goes in may leave what comes out.
    """
    makers = {name: _maker(name) for name in names}
    for name, maker in makers.items():
        if maker is None:
            weight = module.get_parameter(name)
            weight.data = new(name, weight.data)
    made = sorted({maker for maker in makers.values() if maker is not None})
    return [module.get_submodule(maker).register_forward_hook(partial(_hand_over, maker, new)) for maker in made]


def _maker(name: str) -> str | None:
    """The submodule that makes a weight from a parameter, as "head.parametrizations.weight"; None for plain ones."""
    layer, found, made_from = name.partition(f".{PARAMETRIZATIONS}.")
    return f"{layer}{found}{made_from.partition('.')[0]}" if found else None


def _hand_over(name: str, new: New, module: torch.nn.Module, arguments: Any, made: torch.Tensor) -> torch.Tensor:
    return new(name, made)
