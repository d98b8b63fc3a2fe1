"""Saliency: how strongly the target's logit reacts to each pixel."""

from dataclasses import dataclass
from typing import ClassVar

from captum.attr import Saliency as CaptumSaliency

from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.gradients.gradients import differentiable, maps_of
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class Saliency:
    """Gradient saliency (Simonyan et al., ICLR workshop 2014): the largest |gradient| of a pixel's channels."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.UNSIGNED})

    def attribute(self, subject: Subject) -> Maps:
        images = subject.images.detach().clone().requires_grad_()
        found = CaptumSaliency(differentiable(subject.model, subject.target)).attribute(images)
        return maps_of(found.amax(dim=1))


METHOD = Saliency
