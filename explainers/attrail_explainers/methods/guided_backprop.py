"""Guided backpropagation: only what excites a unit that was itself excited is passed back."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.gradients.backward_rules import Rule, Rules, unchanged
from attrail_explainers.gradients.gradients import gradients_of, maps_of
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class GuidedBackprop:
    """Guided backpropagation (Springenberg et al., ICLR workshop 2015), summed over channels.

    Negative gradients stop at every ReLU and ReLU6; other activations keep their gradient. The maps say more about
    the image than about the model (Adebayo et al., NeurIPS 2018): a drift they do not show may still be there. Raises
    UnsupportedModelError when the model has no ReLU.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def attribute(self, subject: Subject) -> Maps:
        with GuidedRules() as rules:
            gradients = gradients_of(subject.model, subject.images, subject.target)
        if not rules.met_relu:
            raise UnsupportedModelError(
                f"model {subject.model.label} has no ReLU, the one activation that guided_backprop changes: use "
                "saliency or smoothgrad"
            )
        return maps_of(gradients.sum(dim=1))


class GuidedRules(Rules):
    """ReLU passes back positive gradients only."""

    def __init__(self) -> None:
        super().__init__({"relu": self.relu, "relu6": self.relu, "hardtanh": self.hardtanh})
        self.met_relu = False

    def relu(self, function: Rule, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Return what the function gives; only positive gradients go back, and only where it was positive."""
        self.met_relu = True
        outputs = function(*args, **kwargs)
        outputs.register_hook(lambda gradient: gradient.clamp(min=0))
        return outputs

    def hardtanh(
        self, function: Rule, inputs: torch.Tensor, min_val: float = -1.0, max_val: float = 1.0, **kwargs: Any
    ) -> torch.Tensor:
        """From 0 up it is a ReLU with a ceiling: export archives hold ReLU6 in this form."""
        rule = self.relu if min_val == 0 else unchanged
        return rule(function, inputs, min_val, max_val, **kwargs)


METHOD = GuidedBackprop
