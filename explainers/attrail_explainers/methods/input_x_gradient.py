"""Input x gradient: each pixel's share of a linear model that touches the model at the image."""

from dataclasses import dataclass
from typing import ClassVar

from captum.attr import InputXGradient as CaptumInputXGradient

from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.gradients.gradients import differentiable, maps_of
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class InputXGradient:
    """Input x gradient (Shrikumar et al., arXiv 1605.01713), summed over channels.

    A pixel that is zero in the model's own units gets nothing.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def attribute(self, subject: Subject) -> Maps:
        images = subject.images.detach().clone().requires_grad_()
        found = CaptumInputXGradient(differentiable(subject.model, subject.target)).attribute(images)
        return maps_of(found.sum(dim=1))


METHOD = InputXGradient
