"""Integrated gradients: gradients gathered on the straight way from a baseline to the image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from captum.attr import IntegratedGradients as CaptumIntegratedGradients

from attrail_explainers.baselines import BASELINES, Baseline, baselines_of
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.gradients.gradients import completeness_residual, differentiable, maps_of, target_logits
from attrail_explainers.parameters import require_choice, require_whole
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class IntegratedGradients:
    """Integrated gradients (Sundararajan et al., ICML 2017) of the target's logit, summed over channels.

    ``steps`` Gauss-Legendre points (captum's default rule) between the ``baseline`` and the image. A map sums to
    f(image) - f(baseline); the diagnostic ``completeness_residual`` is what the steps miss. Images are integrated one
    by one: in captum's sums over several images a map would depend on how many there are.
    """

    steps: int = 64
    baseline: Baseline = "blur"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def __post_init__(self) -> None:
        require_whole("steps", self.steps, 1)
        require_choice("baseline", self.baseline, BASELINES)

    def attribute(self, subject: Subject) -> Maps:
        model = subject.model
        baselines = baselines_of(subject.images, self.baseline)
        found = []
        for row in subject.rows():
            image, baseline = (each[row : row + 1] for each in (subject.images, baselines))
            captum = CaptumIntegratedGradients(differentiable(model, subject.target.row(row)))
            pixels = captum.attribute(image, baselines=baseline, n_steps=self.steps, internal_batch_size=model.batch)
            found.append(pixels.sum(dim=1))
        values = torch.cat(found)
        full, empty = (target_logits(model, images, subject.target) for images in (subject.images, baselines))
        return maps_of(values, completeness_residual(values, full, empty))


METHOD = IntegratedGradients
