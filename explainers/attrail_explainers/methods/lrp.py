"""LRP: the target's logit handed back from layer to layer, to each number in proportion to what it gave."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch

from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.gradients.backward_rules import Rule, Rules, secant, unchanged
from attrail_explainers.gradients.gradients import gradients_of, maps_of
from attrail_explainers.model.operations import CONVOLUTIONS, LINEAR
from attrail_explainers.parameters import require_positive
from attrail_explainers.subject import Subject

GATES = frozenset({"sigmoid", "hardsigmoid", "softmax", "rsqrt", "reciprocal"})
HOMOGENEOUS = frozenset({"relu", "leaky_relu", "prelu"})  # output by input is their gradient already


@dataclass(frozen=True)
class Lrp:
    """Layer-wise relevance propagation, epsilon rule (Bach et al., PLOS ONE 2015), summed over channels.

    Computed as image x modified gradient (Ancona et al., ICLR 2018). ``epsilon`` is counted in root mean squares of a
    layer's outputs at a place (Montavon et al., 2019), because a layer's scale before its normalisation means nothing;
    it takes relevance away from outputs near zero at every convolution and linear layer, so that a map sums to less
    than the logit; as it goes to 0, a ReLU network's map goes to input x gradient. Activations pass relevance on by
    output / input. What gates a signal - sigmoids, attention's softmax, the scale of a normalisation - is held
    constant (Ali et al., ICML 2022); a product of two signals gives half to each (Achtibat et al., ICML 2024). A model
    with nothing but sigmoids between its layers is unsupported, and so is one whose logits can only be had from its
    probabilities.
    """

    epsilon: float = 0.1

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def __post_init__(self) -> None:
        require_positive("epsilon", self.epsilon)

    def attribute(self, subject: Subject) -> Maps:
        with RelevanceRules(self.epsilon):
            gradients = gradients_of(subject.model, subject.images, subject.target)
        return maps_of((subject.images * gradients).sum(dim=1))


class RelevanceRules(Rules):
    """Gradients in which every operation hands back relevance / input instead of its own slope."""

    def __init__(self, epsilon: float) -> None:
        rules: dict[str, Rule] = {
            **dict.fromkeys(GATES, self.gate),
            **dict.fromkeys(HOMOGENEOUS, unchanged),
            **dict.fromkeys(LINEAR, partial(self.weighted, -1)),
            **dict.fromkeys(CONVOLUTIONS, partial(self.weighted, 1)),
        }
        super().__init__(rules, elementwise=self.activation, product=self.product)
        self.epsilon = epsilon

    def weighted(self, channels: int, function: Rule, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Of an output z's relevance, z / (z + epsilon) is kept; ``channels`` says which dimension holds them."""
        outputs = function(*args, **kwargs)
        size = outputs.detach().abs()
        epsilon = self.epsilon * size.square().mean(dim=channels, keepdim=True).sqrt()
        kept = size / (size + epsilon).clamp(min=torch.finfo(size.dtype).tiny)  # 0 where all channels are zero
        outputs.register_hook(lambda gradient: gradient * kept)
        return outputs

    def activation(self, function: Rule, inputs: torch.Tensor) -> torch.Tensor:
        """Output by input, less what it gives for 0, which is a bias."""
        return secant(function, inputs, inputs.new_zeros(()))

    def product(self, function: Rule, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """Return the product; each of its two factors takes half of its relevance."""
        outputs = function(left, right)
        outputs.register_hook(lambda gradient: gradient / 2)
        return outputs

    def gate(self, function: Rule, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return what the function gives, through which no relevance goes back."""
        return function(*args, **kwargs).detach()


METHOD = Lrp
