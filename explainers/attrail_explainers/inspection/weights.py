"""The weights of a version by layer, and how those of two versions differ."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

FEW = 256  # distinct values: as many as eight bits tell apart
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}

Tensors = Mapping[str, torch.Tensor]


def weights_by_layer(module: torch.nn.Module) -> dict[str, dict[str, torch.Tensor]]:
    """Every parameter and saved buffer of floating-point or quantized numbers, by layer and name, on the CPU.

    Counters, such as batch norm's number of batches, are no weights.
    """
    found: dict[str, dict[str, torch.Tensor]] = {}
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor) and (tensor.is_floating_point() or tensor.ndim):
            layer, _, own = name.rpartition(".")
            found.setdefault(layer, {})[own] = tensor.detach().cpu()
    return found


@dataclass(frozen=True)
class WeightChange:
    """How a layer's weights differ in two versions that have them in the same shapes.

    ``relative`` is the length of the difference over that of the first version's weights, ``channels`` how many of the
    output channels differ, ``kind`` what the change looks like, in words; "" for nothing in particular.
    """

    relative: float
    channels: tuple[int, ...]
    kind: str


def change_of(first: Tensors, second: Tensors) -> WeightChange | None:
    """How two versions' weights of one layer differ; None where they are not of the same names and shapes."""
    if {name: each.shape for name, each in first.items()} != {name: each.shape for name, each in second.items()}:
        return None
    pairs = [(each.double(), second[name].double()) for name, each in first.items()]
    apart = sum(float((other - one).square().sum()) for one, other in pairs) ** 0.5
    length = sum(float(one.square().sum()) for one, _ in pairs) ** 0.5
    relative = apart / length if length else float(apart > 0)
    if apart == 0:
        return WeightChange(0.0, (), "")
    changed: set[int] = set()
    for one, other in pairs:
        if one.ndim:
            changed |= set(
                torch.nonzero((one != other).flatten(1).any(1) if one.ndim > 1 else one != other)[:, 0].tolist()
            )
    return WeightChange(relative, tuple(sorted(changed)), _kind(first, second))


def _kind(first: Tensors, second: Tensors) -> str:
    """Silenced, pruned, or rounded, where the second version's weights show it and the first one's do not."""
    name = max(first, key=lambda each: first[each].numel())
    one, other = first[name], second[name]
    if one.ndim > 1:
        norms = [each.double().flatten(1).norm(dim=1) for each in (one, other)]
        silent = torch.nonzero((norms[0] > 0) & (norms[1] == 0))[:, 0].tolist()
        if silent:
            return f"silenced: channel{'s' if len(silent) > 1 else ''} {', '.join(map(str, silent[:6]))}" + (
                f" and {len(silent) - 6} more" if len(silent) > 6 else ""
            )
    if one.numel() > 2 * FEW and _takes_few(other) and not _takes_few(one):
        return f"rounded: {other.unique().numel()} different values, {one.unique().numel()} before"
    for kind, dtype in HALVES.items():
        if _is_rounded(other, dtype) and not _is_rounded(one, dtype):
            return f"rounded to {kind}"
    zeros = [float((each == 0).double().mean()) for each in (one, other)]
    if zeros[1] > zeros[0] + 0.05:
        return f"pruned: {zeros[1]:.0%} of its weights are 0, {zeros[0]:.0%} were"
    return ""


def _takes_few(weights: torch.Tensor) -> bool:
    """Whether there are few different values; most layers show by their first numbers that there are many."""
    return all(each.unique().numel() <= FEW for each in (weights.flatten()[: 4 * FEW], weights))


def _is_rounded(weights: torch.Tensor, dtype: torch.dtype) -> bool:
    return bool((weights.to(dtype).to(weights.dtype) == weights).all())
