"""SHAP of the difference between two versions, evaluated together until it is certain enough."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import IncomparableError, SliceError
from attrail_explainers.explanation import pixels_of
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import Target
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.parameters import require_whole
from attrail_explainers.superpixels.emulator import Emulator
from attrail_explainers.superpixels.evaluations import Evaluations, Perturbation, Perturbed
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.tasks.single_label import SingleLabel

PERTURBATION = Perturbation(Segmentation(), "blur", evaluations=512, tolerance=0.2)


@dataclass(frozen=True)
class Difference:
    """Shapley values of log odds of the target by the second version minus those by the first.

    ``values`` and ``deviations`` (N,H,W) float32, value and standard deviation of each superpixel spread evenly over
    its pixels; NaN where an image has fewer than two superpixels. ``evaluations`` (N,) is what each version was asked::

        change = explain_difference(champion, candidate, images, targets)
        certain = abs(change.values) > 2 * change.deviations
    """

    values: NDArray[np.float32]
    deviations: NDArray[np.float32]
    evaluations: NDArray[np.int64]
    sample_ids: tuple[str, ...]


def explain_difference(
    first: torch.nn.Module,
    second: torch.nn.Module,
    images: torch.Tensor | NDArray[np.float32],
    targets: torch.Tensor | NDArray[np.int64] | Sequence[int],
    sample_ids: Sequence[str] | None = None,
    seed: int = 0,
    perturbation: Perturbation = PERTURBATION,
) -> Difference:
    """Return the Shapley values of what the second of two versions sees more, or less, of than the first.

    Both are asked about the same coalitions, so that what they have in common cancels before anything is estimated:
    the closer the versions, the fewer evaluations it takes. They stop when the standard deviation of the values is at
    most the perturbation's tolerance of their spread::

        change = explain_difference(champion, candidate, images, targets)
        change.values  # (N,H,W), in log odds; above 0 where the candidate finds more that speaks for the target

    Args:
        first: A torch module from images to logits, given back as it came.
        second: Another one, with the same classes.
        images: (N,C,H,W) float32, as both modules take them.
        targets: (N,) class indices.
        sample_ids: N names, "0", "1", ... when None: an image's random draws depend on its name and the seed alone.
        seed: Of all draws, 0 or above.
        perturbation: Superpixels, what takes the place of removed pixels, most evaluations, tolerance.

    Raises ConfigError for a class the models lack, IncomparableError for models with different classes, SliceError
    when ``targets`` or ``sample_ids`` are not N or an image holds NaN.
    """
    images = pixels_of(images)
    names = tuple(str(name) for name in (range(len(images)) if sample_ids is None else sample_ids))
    if not len(images) == len(targets) == len(names):
        raise SliceError(f"{len(images)} images need as many targets and sample ids, got {len(targets)}, {len(names)}")
    seed = require_whole("seed", seed, 0)
    target = SingleLabel.of(targets)
    models = _models(first, second, images, target)
    shape = (len(images), *images.shape[2:])
    values, deviations = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
    spent = np.zeros(len(images), dtype=np.int64)
    for row, name in enumerate(names):
        image = torch.from_numpy(np.array(images[row])).to(models[0].device)
        both = Perturbed(models, image, target.row(row), name, seed, perturbation).evaluations()
        spent[row] = len(both[0].log_odds) + 2
        if both[0].coalitions is not None:
            values[row], deviations[row] = _spread(*both)
    return Difference(values, deviations, spent, names)


def _models(
    first: torch.nn.Module, second: torch.nn.Module, images: NDArray[np.float32], target: Target
) -> list[WorkingCopy]:
    classifiers = [Classifier(name, "", module) for name, module in (("first", first), ("second", second))]
    for classifier in classifiers:
        classifier.require(target, images)
    models = [classifier.working_copy(images) for classifier in classifiers]
    if models[0].classes != models[1].classes:
        raise IncomparableError(
            f"the first version has {models[0].classes} classes, the second {models[1].classes}: only versions with "
            "the same classes can be compared"
        )
    return models


def _spread(first: Evaluations, second: Evaluations) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and deviations of the difference, each pixel with its share of its superpixel's."""
    if first.coalitions is None:
        raise ValueError("a difference needs at least two superpixels")
    emulator = Emulator(
        first.coalitions.present,
        second.log_odds - first.log_odds,
        second.full - first.full,
        second.empty - first.empty,
    )
    areas = np.bincount(first.segments.ravel())
    values, deviations = emulator.shapley_values() / areas, emulator.shapley_deviations() / areas
    return values[first.segments], deviations[first.segments]
