"""Grad-CAM: class activation map of the last layer with places, weighted by its mean gradient."""

from dataclasses import dataclass
from typing import ClassVar

from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.layers.activations import activations_and_gradients, rectified
from attrail_explainers.parameters import require_layer
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class GradCam:
    """Grad-CAM (Selvaraju et al., ICCV 2017) on the target layer's own grid.

    The weights are the mean over places of the gradients of the target's logit. An all-zero map (no positive evidence)
    is undefined. ``layer`` overrides the layer that is found by itself.
    """

    layer: str | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.LAYER})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.UNSIGNED})

    def __post_init__(self) -> None:
        require_layer(self.layer)

    def attribute(self, subject: Subject) -> Maps:
        activations, gradients = activations_and_gradients(subject)
        weights = gradients.mean(dim=(2, 3), keepdim=True)
        return rectified((weights * activations).sum(dim=1), subject)


METHOD = GradCam
