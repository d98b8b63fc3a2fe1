"""SmoothGrad: saliency without the gradient's own noise, by averaging over noisy copies."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from attrail_explainers.digest import seed_of
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.gradients.gradients import gradients_of, maps_of
from attrail_explainers.parameters import require_positive, require_whole
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class SmoothGrad:
    """SmoothGrad (Smilkov et al., 2017): the mean gradient over ``samples`` noisy copies of the image.

    ``noise`` is the Gaussian's standard deviation as a share of the image's range (max - min). As in saliency, a pixel
    shows the largest |mean gradient| of its channels. The noise belongs to the sample id: every model version sees the
    same copies.
    """

    samples: int = 32
    noise: float = 0.15

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.RANDOM, Trait.UNSIGNED})

    def __post_init__(self) -> None:
        require_whole("samples", self.samples, 1)
        require_positive("noise", self.noise)

    def attribute(self, subject: Subject) -> Maps:
        values = []
        for row in subject.rows():
            copies = self.noisy(subject.images[row], subject.seed, subject.sample_ids[row])
            gradients = gradients_of(subject.model, copies, subject.target.row(row))
            values.append(gradients.mean(dim=0).abs().amax(dim=0))
        return maps_of(torch.stack(values))

    def noisy(self, image: torch.Tensor, seed: int, sample_id: str) -> torch.Tensor:
        """Noisy copies (samples,C,H,W) of an image (C,H,W)."""
        generator = torch.Generator().manual_seed(seed_of("noise", seed, sample_id))
        draws = torch.randn((self.samples, *image.shape), generator=generator).to(image.device)
        return image + draws * (self.noise * (image.max() - image.min()))


METHOD = SmoothGrad
