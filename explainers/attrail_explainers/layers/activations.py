"""Activations of the target layer and gradients in them: what the class-activation family is made of."""

from typing import Any

import numpy as np
import torch

from attrail_explainers.explainer import Maps
from attrail_explainers.layers.target_layer import target_layer
from attrail_explainers.model.places import TargetLayer
from attrail_explainers.subject import Subject


def activations_and_gradients(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations (N,C,h,w) of the target layer and the gradients of the target logits in them, for the whole batch.

    The rows after the subject's own are the batch's filling: sums over a constant shape keep bytes the same. Raises
    UnsupportedModelError when the layer fails its checks.
    """
    layer = target_layer(subject.model, subject.images, subject.target_layer)
    leaf, logits = logits_from(subject, layer)
    (gradients,) = torch.autograd.grad(subject.target.slope(logits).sum(), leaf)
    dtype = torch.promote_types(gradients.dtype, torch.float32)  # half precision would not do for the sums
    return layer.places.grid(leaf.detach()).to(dtype), layer.places.grid(gradients).to(dtype)


def logits_from(subject: Subject, layer: TargetLayer) -> tuple[torch.Tensor, torch.Tensor]:
    """A layer's output for the whole batch, as the model has it, and the logits (N,classes) that follow from it.

    The forward pass up to the layer keeps no graph: gradients are taken from the layer to the logits alone, which
    costs about one inference and never meets in-place activations below the layer.
    """
    leaves: list[torch.Tensor] = []

    def leave_graph(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        leaves.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return leaves[-1].clone()  # a later in-place activation may write into the copy, not into the leaf

    with torch.no_grad(), subject.model.hooks({layer.name: leave_graph}):
        logits = subject.model.call(subject.images, hooked=True)
    return leaves[0], logits


def signed(maps: torch.Tensor, subject: Subject) -> Maps:
    """Return maps (N,h,w) without the batch's filling; a map with numbers that are not finite is undefined."""
    values = maps[: len(subject)].float().cpu().numpy()
    broken = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
    values[broken] = np.nan
    return Maps(values, {int(row): "its activations or gradients are not finite" for row in broken})


def rectified(maps: torch.Tensor, subject: Subject) -> Maps:
    """Return the positive part of maps (N,h,w), as ``signed`` does; a map without any is undefined too."""
    positive = signed(torch.relu(maps), subject)
    empty = np.flatnonzero(positive.values.max(axis=(1, 2)) <= 0)
    positive.values[empty] = np.nan
    return Maps(
        positive.values, {**positive.undefined, **{int(row): "no positive evidence for the target" for row in empty}}
    )
