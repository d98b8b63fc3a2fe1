"""CAM: the weights of a linear head, applied before the pooling instead of after it."""

from dataclasses import dataclass
from typing import ClassVar

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.layers.activations import activations_and_gradients, signed
from attrail_explainers.layers.target_layer import target_layer
from attrail_explainers.parameters import require_layer
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class Cam:
    """Class activation mapping (Zhou et al., CVPR 2016, equation 2) on the target layer's own grid, signed.

    For a model that pools and then applies one linear layer: a map's mean is the target's logit less its bias. Raises
    UnsupportedModelError for every other head. ``layer`` overrides the layer that is found by itself.
    """

    layer: str | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS, Need.LAYER})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def __post_init__(self) -> None:
        require_layer(self.layer)

    def attribute(self, subject: Subject) -> Maps:
        layer = target_layer(subject.model, subject.images, subject.target_layer)
        if not (layer.linear and subject.target.task.whole):
            raise UnsupportedModelError(
                f"model {subject.model.label} does not only average layer {layer.name!r} over its places and apply one "
                "linear layer, which cam needs: use gradcam"
            )
        activations, gradients = activations_and_gradients(subject)
        weights = gradients.sum(dim=(2, 3), keepdim=True)  # equal at all places: the head's weights
        return signed((weights * activations).sum(dim=1), subject)


METHOD = Cam
