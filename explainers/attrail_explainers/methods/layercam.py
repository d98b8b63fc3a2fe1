"""Layer-CAM: every place of the target layer weighted by its own positive gradient."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.layers.activations import activations_and_gradients, rectified
from attrail_explainers.parameters import require_layer
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class LayerCam:
    """Layer-CAM (Jiang et al., IEEE TIP 2021, equation 7) on the target layer's own grid.

    Weights keep their place, so that earlier, finer layers give sensible maps too: ``layer`` overrides the layer that
    is found by itself.
    """

    layer: str | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.LAYER})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.UNSIGNED})

    def __post_init__(self) -> None:
        require_layer(self.layer)

    def attribute(self, subject: Subject) -> Maps:
        activations, gradients = activations_and_gradients(subject)
        return rectified((torch.relu(gradients) * activations).sum(dim=1), subject)


METHOD = LayerCam
