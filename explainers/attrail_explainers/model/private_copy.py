"""A private copy of a module: everything in it copied, and arranged for evaluation and for speed."""

import copy
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from attrail_explainers.errors import UnsupportedModelError


def private_copy(label: str, module: torch.nn.Module) -> torch.nn.Module:
    """Return a deep copy, arranged; raise UnsupportedModelError for a module that cannot be copied or is scripted.

    Of a module that ``torch.compile`` gave it is the module inside: compiled anew for every copy it would be slower.
    """
    module = getattr(module, "_orig_mod", module)
    if not isinstance(module, torch.nn.Module):
        raise UnsupportedModelError(
            f"model {label}: expected a torch.nn.Module, got {type(module).__name__}; give the module itself"
        )
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if is_lazy(tensor) or tensor.is_meta:
            raise UnsupportedModelError(
                f"model {label}: {name} has no values yet (a lazy layer, or device meta): load its weights, or run it "
                "on one batch first"
            )
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        raise UnsupportedModelError(
            f"model {label} is or holds a scripted module (torch.jit), whose operations cannot be followed: give the "
            "module that was scripted, or log that in MLflow's default pt2 format"
        )
    try:
        copied = deep_copy(module)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedModelError(
            f"model {label} cannot be copied, log it in MLflow's default pt2 format: {error}"
        ) from error
    arrange(copied)
    return copied


def deep_copy(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy of a module and of everything in it; raise RuntimeError or TypeError for what cannot be copied."""
    # Weights that old-style weight norm and pruning compute before each call; torch copies no tensor with a history.
    computed = [
        each for part in module.modules() for each in vars(part).values()
        if isinstance(each, torch.Tensor) and not each.is_leaf
    ]  # fmt: skip
    memo: dict[int, Any] = {id(each): each.detach().clone() for each in computed}
    # Placeholders of an unflattened program hold fake tensors, which cannot be copied and need not be.
    memo |= {id(node): node for node in getattr(module, "input_placeholders", ())}
    return copy.deepcopy(module, memo)


def arrange(module: torch.nn.Module) -> None:
    """Give a module itself evaluation mode, no weight gradients, no in-place activations, channels-last weights."""
    for part in module.modules():
        part.training = False
        if getattr(part, "inplace", False) is True:
            setattr(part, "inplace", False)  # noqa: B010 - mypy takes every attribute of a module for a tensor
    for weight in [*module.parameters(), *module.buffers()]:
        weight.requires_grad_(False)
        if weight.ndim == 4:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
