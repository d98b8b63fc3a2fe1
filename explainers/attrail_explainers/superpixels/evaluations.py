"""Masked evaluations of one image, computed once and shared by every perturbation method that asks for the same."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.baselines import BASELINES, Baseline, baseline_of
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import ExplanationError
from attrail_explainers.model.log_odds import target_log_odds
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.parameters import require_choice, require_number, require_whole
from attrail_explainers.superpixels.coalitions import Coalitions, draw_coalitions
from attrail_explainers.superpixels.emulator import Emulator
from attrail_explainers.superpixels.masking import Mosaic
from attrail_explainers.superpixels.segmentation import Segmentation, segment_diagnostics

Precision = Literal["float32", "bfloat16"]
FIRST, BLOCK = 128, 64  # evaluations before the first look at the interval, and between looks


@dataclass(frozen=True)
class Perturbation:
    """How images are perturbed: superpixels, what takes their place, and how many evaluations are spent.

    ``baseline``: "blur" (Fong & Vedaldi, ICCV 2017; Gaussian with a sigma of an eighth of the shorter side), "mean"
    (the image's mean colour) or "zero" (zero in the model's own units). ``evaluations`` counts every call for an image,
    the whole image and the bare baseline among them. With ``tolerance`` it is the most that are spent: they stop as
    soon as the standard deviation of the Shapley values, given the evaluations, is at most that share of the spread of
    the values over superpixels. ``precision`` "bfloat16" halves the time on CPUs that have it, and adds noise.
    """

    segmentation: Segmentation
    baseline: Baseline
    evaluations: int
    tolerance: float | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        require_choice("baseline", self.baseline, BASELINES)
        require_whole("evaluations", self.evaluations, 4)
        if self.tolerance is not None:
            require_number("tolerance", self.tolerance, "be a share above 0 and below 1", lambda share: 0 < share < 1)
        require_choice("precision", self.precision, get_args(Precision))


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

    @cached_property
    def emulator(self) -> Emulator:
        """The process that says what the coalitions that were not evaluated would have given."""
        if self.coalitions is None:
            raise ValueError("an emulator needs at least two superpixels")
        return Emulator(self.coalitions.present, self.log_odds, self.full, self.empty)

    def diagnostics(self) -> dict[str, float]:
        """How the image was cut, the evaluations spent, and the share of their variance that the emulator predicts."""
        numbers = segment_diagnostics(self.segments) | {"evaluations": float(len(self.log_odds) + 2)}
        if self.coalitions is not None and not self.coalitions.complete:
            numbers["emulator_r2"] = self.emulator.explained_variance()
        return numbers


def evaluate(
    model: WorkingCopy, image: torch.Tensor, target: int, sample_id: str, seed: int, perturbation: Perturbation
) -> Evaluations:
    """Evaluate one image (C,H,W) under coalitions drawn for its sample id: the same for every model version."""
    (evaluations,) = evaluate_together([model], image, target, sample_id, seed, perturbation)
    return evaluations


def evaluate_together(
    models: Sequence[WorkingCopy],
    image: torch.Tensor,
    target: int,
    sample_id: str,
    seed: int,
    perturbation: Perturbation,
) -> list[Evaluations]:
    """Evaluate one image under the same coalitions by one model or by two.

    With a tolerance, evaluations stop when one model's Shapley values are certain enough, or for two models those of
    the difference between them.
    """
    segments = perturbation.segmentation.segment(image.cpu().numpy())
    count = int(segments.max()) + 1
    if count < 2:
        rows = np.array([[True], [False]])
        ends = [_outputs(model, image, segments, rows, target, sample_id, perturbation) for model in models]
        return [Evaluations(segments, None, each[2:], float(each[0]), float(each[1])) for each in ends]
    generator = np.random.default_rng(seed_of("coalitions", seed, sample_id))
    drawn = draw_coalitions(count, perturbation.evaluations - 2, generator)
    rows = np.concatenate([[[True] * count, [False] * count], drawn.present])
    outputs = np.empty((len(models), 0))
    looks = () if perturbation.tolerance is None else range(FIRST, len(rows), BLOCK)
    for stop in (*looks, len(rows)):
        block = rows[outputs.shape[1] : stop]
        found = [_outputs(model, image, segments, block, target, sample_id, perturbation) for model in models]
        outputs = np.concatenate([outputs, found], axis=1)
        if stop < len(rows) and _certain(rows[:stop], outputs, perturbation.tolerance):
            break
    used = outputs.shape[1] - 2
    coalitions = Coalitions(drawn.present[:used], drawn.weight[:used], drawn.complete)
    return [Evaluations(segments, coalitions, each[2:], float(each[0]), float(each[1])) for each in outputs]


def _certain(rows: NDArray[np.bool_], outputs: NDArray[np.float64], tolerance: float | None) -> bool:
    contrast = outputs[-1] - outputs[0] if len(outputs) == 2 else outputs[0]
    emulator = Emulator(rows[2:], contrast[2:], contrast[0], contrast[1])
    return tolerance is not None and emulator.noise <= tolerance


def _outputs(
    model: WorkingCopy,
    image: torch.Tensor,
    segments: NDArray[np.int64],
    rows: NDArray[np.bool_],
    target: int,
    sample_id: str,
    perturbation: Perturbation,
) -> NDArray[np.float64]:
    """Log odds (M,) of the target with the superpixels of each row kept and the others replaced."""
    mosaic = Mosaic(image, baseline_of(image, perturbation.baseline), segments)
    short = perturbation.precision == "bfloat16"
    parts = []
    with torch.inference_mode(), torch.autocast(image.device.type, torch.bfloat16, enabled=short):
        for start in range(0, len(rows), model.batch):
            logits = model.call(mosaic.keeping(rows[start : start + model.batch]))
            parts.append(target_log_odds(logits, target))
    outputs = np.asarray(torch.cat(parts).cpu().numpy())
    if not np.isfinite(outputs).all():
        raise ExplanationError(
            f"model {model.label} returns NaN or infinite outputs for perturbed copies of {sample_id!r}"
        )
    return outputs
