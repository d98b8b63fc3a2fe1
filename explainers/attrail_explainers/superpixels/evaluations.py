"""Masked evaluations of one image, computed once and shared by every perturbation method that asks for the same."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from attrail_explainers.baselines import BASELINES, Baseline, baseline_of
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import ExplanationError
from attrail_explainers.model.task import Target
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
    """What a model says of one image's target with parts of the image removed.

    ``segments`` (H,W); ``log_odds`` (M,), the target's score for each coalition, ``full`` for the image as it is and
    ``empty`` for the baseline alone. ``coalitions`` is None when the image has fewer than two superpixels. ``response``
    is the task's: it makes probabilities of log odds.
    """

    segments: NDArray[np.int64]
    coalitions: Coalitions | None
    log_odds: NDArray[np.float64]
    full: float
    empty: float
    response: Callable[[NDArray[np.float64]], NDArray[np.float64]] = expit

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


class Perturbed:
    """One image (C,H,W) under coalitions drawn for its sample id: the same for every version, and for all it is asked.

    ``target`` has a row for each thing that is asked of the image; each batch of coalitions is run once for all of
    them, and only as far as one of them needs it. By one model, or by two, whose difference then must be certain.
    """

    def __init__(
        self,
        models: Sequence[WorkingCopy],
        image: torch.Tensor,
        target: Target,
        sample_id: str,
        seed: int,
        perturbation: Perturbation,
    ) -> None:
        self.models, self.target, self.sample_id, self.perturbation = models, target, sample_id, perturbation
        self.segments = perturbation.segmentation.segment(image.cpu().numpy())
        count = int(self.segments.max()) + 1
        ends = np.array([[True] * count, [False] * count])
        generator = np.random.default_rng(seed_of("coalitions", seed, sample_id))
        self.drawn = draw_coalitions(count, perturbation.evaluations - 2, generator) if count > 1 else None
        self.rows = ends if self.drawn is None else np.concatenate([ends, self.drawn.present])
        self._mosaic = Mosaic(image, baseline_of(image, perturbation.baseline), self.segments)
        self._scores = np.empty((len(models), len(target), 0))

    def evaluations(self, place: int = 0) -> list[Evaluations]:
        """Each model's evaluations for one row of the target; with a tolerance, they stop when they are certain."""
        tolerance = self.perturbation.tolerance
        looks = () if tolerance is None else range(FIRST, len(self.rows), BLOCK)
        for stop in (*looks, len(self.rows)):
            found = self._until(stop)[:, place]
            if stop < len(self.rows) and _certain(self.rows[:stop], found, tolerance):
                break
        coalitions, used, respond = None, found.shape[1] - 2, self.target.task.response
        if self.drawn is not None:
            coalitions = Coalitions(self.drawn.present[:used], self.drawn.weight[:used], self.drawn.complete)
        return [
            Evaluations(self.segments, coalitions, each[2:], float(each[0]), float(each[1]), respond) for each in found
        ]

    def _until(self, stop: int) -> NDArray[np.float64]:
        """Scores (models,targets,stop) of the first rows; what is not known yet is asked."""
        known = self._scores.shape[2]
        if known < stop:
            found = np.stack([self._asked(model, self.rows[known:stop]) for model in self.models])
            self._scores = np.concatenate([self._scores, found], axis=2)
        return self._scores[:, :, :stop]

    def _asked(self, model: WorkingCopy, rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Scores (targets,M) with the superpixels of each row (M,S) kept and the others replaced."""
        short, device = self.perturbation.precision == "bfloat16", model.device.type
        alone = [self.target.row(place) for place in range(len(self.target))]
        parts: list[torch.Tensor] = []
        with torch.inference_mode(), torch.autocast(device, torch.bfloat16, enabled=short):
            for start in range(0, len(rows), model.batch):
                outputs = model.call(self._mosaic.keeping(rows[start : start + model.batch]))
                parts.append(torch.stack([each.score(outputs) for each in alone]))
        scores = np.asarray(torch.cat(parts, dim=1).cpu().numpy())
        if not np.isfinite(scores).all():
            raise ExplanationError(
                f"model {model.label} returns NaN or infinite outputs for perturbed copies of {self.sample_id!r}"
            )
        return scores


def evaluate(
    model: WorkingCopy, image: torch.Tensor, target: Target, sample_id: str, seed: int, perturbation: Perturbation
) -> Evaluations:
    """Evaluate one image (C,H,W) for a target of one row."""
    return Perturbed([model], image, target, sample_id, seed, perturbation).evaluations()[0]


def _certain(rows: NDArray[np.bool_], scores: NDArray[np.float64], tolerance: float | None) -> bool:
    contrast = scores[-1] - scores[0] if len(scores) == 2 else scores[0]
    emulator = Emulator(rows[2:], contrast[2:], contrast[0], contrast[1])
    return tolerance is not None and emulator.noise <= tolerance
