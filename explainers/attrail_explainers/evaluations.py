"""Masked evaluations of one image, computed once and shared by every perturbation method that asks for the same."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.transforms.v2.functional import gaussian_blur

from attrail_explainers.coalitions import Coalitions, draw_coalitions
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import ConfigError, ExplanationError
from attrail_explainers.segmentation import Segmentation
from attrail_explainers.working_copy import WorkingCopy

Baseline = Literal["blur", "mean", "zero"]


@dataclass(frozen=True)
class Perturbation:
    """How images are perturbed: superpixels, what takes their place, and how many evaluations are spent.

    ``baseline``: "blur" (Fong & Vedaldi, ICCV 2017; Gaussian with a sigma of an eighth of the shorter side), "mean"
    (the image's mean colour) or "zero" (zero in the model's own units). ``evaluations`` counts every call for an image,
    the whole image and the bare baseline among them.
    """

    segmentation: Segmentation
    baseline: Baseline
    evaluations: int

    def __post_init__(self) -> None:
        if self.baseline not in ("blur", "mean", "zero"):
            raise ConfigError(f"baseline must be blur, mean or zero, not {self.baseline!r}")
        if not isinstance(self.evaluations, int) or self.evaluations < 4:
            raise ConfigError(f"evaluations must be a whole number of at least 4, not {self.evaluations!r}")


@dataclass(frozen=True)
class Evaluations:
    """One image's perturbed outputs for its target class.

    ``segments`` (H,W); ``log_odds`` (M,) of the target for each coalition, ``full`` for the image as it is and
    ``empty`` for the baseline alone. ``coalitions`` is None when the image has fewer than two superpixels.
    """

    segments: NDArray[np.int64]
    coalitions: Coalitions | None
    log_odds: NDArray[np.float64]
    full: float
    empty: float


def baseline_of(image: torch.Tensor, kind: Baseline) -> torch.Tensor:
    """What takes the place of removed superpixels of an image (C,H,W)."""
    if kind == "zero":
        return torch.zeros_like(image)
    if kind == "mean":
        return image.mean(dim=(1, 2), keepdim=True).expand_as(image)
    sigma = min(image.shape[1:]) / 8
    blurred: torch.Tensor = gaussian_blur(image, [2 * int(3 * sigma) + 1] * 2, [sigma] * 2)
    return blurred


def target_log_odds(logits: torch.Tensor, target: int) -> torch.Tensor:
    """Log p/(1-p) of the target (M,) from logits (M,classes), without the saturation of probabilities."""
    logits = logits.double()
    others = torch.cat([logits[:, :target], logits[:, target + 1 :]], dim=1)
    return logits[:, target] - torch.logsumexp(others, dim=1)


def evaluate(
    model: WorkingCopy, image: torch.Tensor, target: int, sample_id: str, seed: int, perturbation: Perturbation
) -> Evaluations:
    """Evaluate one image (C,H,W) under coalitions drawn for its sample id: the same for every model version."""
    segments = perturbation.segmentation.segment(image.cpu().numpy())
    count = int(segments.max()) + 1
    coalitions = None
    rows = np.array([[True] * count, [False] * count])
    if count >= 2:
        generator = np.random.default_rng(seed_of("coalitions", seed, sample_id))
        coalitions = draw_coalitions(count, perturbation.evaluations - 2, generator)
        rows = np.concatenate([rows, coalitions.present])
    outputs = _masked_outputs(model, image, segments, rows, baseline_of(image, perturbation.baseline), target)
    if not np.isfinite(outputs).all():
        raise ExplanationError(
            f"model {model.label} returns NaN or infinite outputs for perturbed copies of {sample_id!r}"
        )
    return Evaluations(segments, coalitions, outputs[2:], float(outputs[0]), float(outputs[1]))


def _masked_outputs(
    model: WorkingCopy,
    image: torch.Tensor,
    segments: NDArray[np.int64],
    rows: NDArray[np.bool_],
    baseline: torch.Tensor,
    target: int,
) -> NDArray[np.float64]:
    """Log odds (M,) of the target with the superpixels of each row kept and the others replaced."""
    place = torch.from_numpy(segments).to(image.device)
    found = []
    with torch.inference_mode():
        for chunk in model.chunks(torch.from_numpy(rows).to(image.device)):
            keep = chunk[:, place].unsqueeze(1)
            logits = model.call(torch.where(keep, image, baseline))
            found.append(target_log_odds(logits, target))
    return np.asarray(torch.cat(found).cpu().numpy())
