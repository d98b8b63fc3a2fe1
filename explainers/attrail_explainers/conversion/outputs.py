"""A model's outputs for images, whatever holds them, on both sides of a conversion alike."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils import _pytree

Arrays = list[NDArray[Any]]
NO_TENSOR = "it returns no tensor"


def outputs_of(call: Callable[[torch.Tensor], Any], images: torch.Tensor, batch: int, *, fixed: bool) -> Arrays:
    """Every tensor that a model returns for images (N,C,H,W), batch after batch of so many, floats as float64.

    ``fixed``: the last batch has as many as well, some a second time. Raises whatever the model does, and TypeError
    when it returns no tensor.
    """
    found: Arrays = []
    with torch.inference_mode():
        for start in range(0, len(images), batch):
            part = images[-batch:] if fixed and start + batch > len(images) else images[start : start + batch]
            found += [_array(each) for each in _pytree.tree_leaves(call(part)) if isinstance(each, torch.Tensor)]
    if not found:
        raise TypeError(NO_TENSOR)
    return found


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    plain = tensor.detach().cpu()
    return np.asarray((plain.double() if plain.is_floating_point() else plain).numpy())
