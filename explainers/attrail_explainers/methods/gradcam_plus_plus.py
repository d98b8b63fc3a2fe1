"""Grad-CAM++: Grad-CAM whose weights count every place by its share in the gradients' higher powers."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.layers.activations import activations_and_gradients, rectified
from attrail_explainers.parameters import require_layer
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class GradCamPlusPlus:
    """Grad-CAM++ (Chattopadhay et al., WACV 2018, equation 19) on the target layer's own grid.

    With g the gradient of the target's logit and A the activations, a channel's weight is the sum over places of
    a relu(g), where a = g^2 / (2 g^2 + g^3 sum(A)). The paper's class score is the exponential of the logit, which
    multiplies a whole map by one number: left out, as in the libraries, since it overflows. Derived for activations
    that are not negative; where they are, the denominator can come near zero and a weight be large. ``layer``
    overrides the layer that is found by itself.
    """

    layer: str | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.LAYER})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.UNSIGNED})

    def __post_init__(self) -> None:
        require_layer(self.layer)

    def attribute(self, subject: Subject) -> Maps:
        activations, gradients = activations_and_gradients(subject)
        return rectified((channel_weights(activations, gradients) * activations).sum(dim=1), subject)


def channel_weights(activations: torch.Tensor, gradients: torch.Tensor) -> torch.Tensor:
    """Weights (N,C,1,1) from activations and gradients (N,C,h,w); a place without positive gradient adds nothing."""
    # g^2 cancels wherever it counts, and small gradients squared would vanish in float32.
    denominator = 2 + gradients * activations.sum(dim=(2, 3), keepdim=True)
    share = torch.where(denominator == 0, 0, 1 / denominator)
    return (share * torch.relu(gradients)).sum(dim=(2, 3), keepdim=True)


METHOD = GradCamPlusPlus
