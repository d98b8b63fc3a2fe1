"""Gradient SHAP (expected gradients): integrated gradients averaged over several baselines, by sampling."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.baselines import BASELINES, baseline_of
from attrail_explainers.digest import seed_of
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.gradients.gradients import completeness_residual, gradients_of, maps_of, target_logits
from attrail_explainers.parameters import require_whole
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class GradientShap:
    """Expected gradients (Erion et al., Nature Machine Intelligence 2021), summed over channels.

    The ``samples`` points are dealt out to the image's own three baselines (blur, mean, zero: no background images are
    needed). On the way from each baseline to the image one point is drawn in each of as many equal parts as it has
    points, which scatters less than free draws. A map sums to f(image) less the mean f(baseline) in
    expectation; the diagnostic ``completeness_residual`` is what the draws miss.
    """

    samples: int = 64

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.RANDOM})

    def __post_init__(self) -> None:
        require_whole("samples", self.samples, len(BASELINES))

    def attribute(self, subject: Subject) -> Maps:
        values, empty = [], []
        for row in subject.rows():
            image, target = subject.images[row], subject.target.row(row)
            kinds, shares = self.draws(subject.seed, subject.sample_ids[row])
            baselines = torch.stack([baseline_of(image, kind) for kind in BASELINES])
            drawn = baselines[torch.from_numpy(kinds).to(image.device)]
            way = image - drawn
            points = drawn + way * torch.from_numpy(shares).to(image)[:, None, None, None]
            gradients = gradients_of(subject.model, points, target)
            values.append((gradients * way).mean(dim=0).sum(dim=0))
            bare = target_logits(subject.model, baselines, target)
            empty.append(bare[kinds].mean())
        full = target_logits(subject.model, subject.images, subject.target)
        maps = torch.stack(values)
        return maps_of(maps, completeness_residual(maps, full, np.array(empty)))

    def draws(self, seed: int, sample_id: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Of each point (samples,): its baseline's number, and how far 0..1 it is on the way to the image."""
        generator = np.random.default_rng(seed_of("expected gradients", seed, sample_id))
        part, kinds = np.divmod(np.arange(self.samples), len(BASELINES))
        return kinds, (part + generator.random(self.samples)) / np.bincount(kinds)[kinds]


METHOD = GradientShap
