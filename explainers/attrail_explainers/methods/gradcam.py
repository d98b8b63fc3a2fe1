"""Grad-CAM: class activation map of the last convolutional layer, weighted by its mean gradient."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class GradCam:
    """Grad-CAM (Selvaraju et al., ICCV 2017) on the target layer's own grid.

    The forward pass up to the layer keeps no graph: gradients are taken from the layer to the logit alone, which
    costs about one inference and never meets in-place activations below the layer. An all-zero map (no positive
    evidence) is undefined. ``layer`` overrides the layer that is found by itself.
    """

    layer: str | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.LAYER})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.UNSIGNED})

    def attribute(self, subject: Subject) -> Maps:
        activations, gradients = activations_and_gradients(subject)
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        values = torch.relu((weights * activations).sum(dim=1))[: len(subject)].float().cpu().numpy()
        empty = np.flatnonzero(values.max(axis=(1, 2)) <= 0)
        values[empty] = np.nan
        return Maps(values, {int(row): "no positive evidence for the target" for row in empty})


def activations_and_gradients(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    """Activations (N,C,h,w) of the target layer and the gradients of the target logits in them, for the whole batch.

    The rows after the subject's own are the batch's filling: sums over a constant shape keep bytes the same.
    """
    model, name = subject.model, subject.target_layer or ""
    leaves: list[torch.Tensor] = []

    def leave_graph(module: torch.nn.Module, arguments: Any, output: Any) -> torch.Tensor:
        if not isinstance(output, torch.Tensor) or output.ndim != 4:
            raise UnsupportedModelError(
                f"layer {name!r} of model {model.label}: expected activations (N,C,h,w) for gradcam"
            )
        leaves.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return leaves[-1].clone()  # a later in-place activation may write into the copy, not into the leaf

    with torch.no_grad(), model.hooks({name: leave_graph}):
        logits = model.call(subject.images, hooked=True)
    if len(leaves) != 1:
        raise UnsupportedModelError(
            f"layer {name!r} of model {model.label} ran {len(leaves)} times in one forward pass; gradcam needs "
            "a layer that runs once: set the explainer's parameter layer"
        )
    selected = logits.gather(1, subject.targets[:, None]).sum()
    (gradients,) = torch.autograd.grad(selected, leaves[0])
    return leaves[0].detach(), gradients


METHOD = GradCam
