"""SHAP of the difference between two versions, evaluated together until it is certain enough."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import IncomparableError, SliceError
from attrail_explainers.explanation import asked_classifier, given_subjects, pixels_of
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import SINGLE_LABEL, Target, Task
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.parameters import require_whole
from attrail_explainers.superpixels.emulator import Emulator
from attrail_explainers.superpixels.evaluations import Evaluations, Perturbation, Perturbed
from attrail_explainers.superpixels.segmentation import Segmentation

PERTURBATION = Perturbation(Segmentation(), "blur", evaluations=512, tolerance=0.2)


@dataclass(frozen=True)
class Difference:
    """Shapley values of log odds of the target by the second version minus those by the first.

    ``values`` and ``deviations`` (N,H,W) float32, value and standard deviation of each superpixel spread evenly over
    its pixels; NaN where an image has fewer than two superpixels, or a version no answer. ``evaluations`` (N,) is what
    each version was asked. Of a task with several rows an image there are N rows, with ``sample_ids`` of their own::

        change = explain_difference(champion, candidate, images, targets)
        certain = abs(change.values) > 2 * change.deviations
    """

    values: NDArray[np.float32]
    deviations: NDArray[np.float32]
    evaluations: NDArray[np.int64]
    sample_ids: tuple[str, ...]


def explain_difference(  # noqa: PLR0913, PLR0917 - what explain takes, and a second version
    first: torch.nn.Module,
    second: torch.nn.Module,
    images: torch.Tensor | NDArray[np.float32],
    targets: Any = None,
    sample_ids: Sequence[str] | None = None,
    seed: int = 0,
    perturbation: Perturbation = PERTURBATION,
    task: str | Task = SINGLE_LABEL,
) -> Difference:
    """Return the Shapley values of what the second of two versions sees more, or less, of than the first.

    Both are asked about the same coalitions, so that what they have in common cancels before anything is estimated:
    the closer the versions, the fewer evaluations it takes. They stop when the standard deviation of the values is at
    most the perturbation's tolerance of their spread::

        change = explain_difference(champion, candidate, images, targets)
        change.values  # (N,H,W), in log odds; above 0 where the candidate finds more that speaks for the target

    Args:
        first: A torch module from images to logits, or to what else the task is about, given back as it came.
        second: Another one, with the same classes.
        images: (N,C,H,W) float32, as both modules take them.
        targets: What each row explains, as ``explain`` takes them: (N,) class indices of a single label; where a task
            leaves them open, the first module's outputs tell, for both.
        sample_ids: N names, "0", "1", ... when None: an image's random draws depend on its name and the seed alone.
        seed: Of all draws, 0 or above.
        perturbation: Superpixels, what takes the place of removed pixels, most evaluations, tolerance.
        task: What is asked of both: one of ``task_names()``, or a task with parameters of its own.

    Raises ConfigError for a class the models lack, IncomparableError for models with different classes, SliceError
    when ``targets`` or ``sample_ids`` are not N or an image holds NaN.
    """
    images = pixels_of(images)
    _require_as_many(images, targets, sample_ids)
    seed = require_whole("seed", seed, 0)
    classifiers = [replace(asked_classifier(each, task), name=name) for name, each in _named(first, second)]
    subjects, target = given_subjects(classifiers[0], images, targets, sample_ids)
    models = _models(classifiers, subjects.images, target)
    shape = (len(subjects), *images.shape[2:])
    values, deviations = (np.full(shape, np.nan, dtype=np.float32) for _ in range(2))
    spent = np.zeros(len(subjects), dtype=np.int64)
    for start, stop in pairwise(subjects.starts.tolist()):
        image, own = torch.from_numpy(np.array(subjects.images[start])).to(models[0].device), slice(start, stop)
        perturbed = Perturbed(models, image, target.rows(own), subjects.pictured[start], seed, perturbation)
        lacking = _lacking(models, image, target.rows(own))
        for row in range(start, stop):
            both = perturbed.evaluations(row - start)
            spent[row] = len(both[0].log_odds) + 2
            if both[0].coalitions is not None and row - start not in lacking:
                values[row], deviations[row] = _spread(*both)
    return Difference(values, deviations, spent, subjects.sample_ids)


def _named(first: torch.nn.Module, second: torch.nn.Module) -> list[tuple[str, torch.nn.Module]]:
    return [("first", first), ("second", second)]


def _require_as_many(images: NDArray[np.float32], targets: Any, sample_ids: Sequence[str] | None) -> None:
    count = len(images)
    lengths = [count if each is None or isinstance(each, Mapping) else len(each) for each in (targets, sample_ids)]
    if lengths != [count, count]:
        raise SliceError(f"{count} images need as many targets and sample ids, got {', '.join(map(str, lengths))}")


def _models(classifiers: Sequence[Classifier], images: NDArray[np.float32], target: Target) -> list[WorkingCopy]:
    for classifier in classifiers:
        classifier.require(target, images)
    models = [classifier.working_copy(images) for classifier in classifiers]
    if models[0].classes != models[1].classes:
        answers = target.task.answers
        raise IncomparableError(
            f"the first version has {models[0].classes} {answers}, the second {models[1].classes}: only versions with "
            f"the same {answers} can be compared"
        )
    return models


def _lacking(models: Sequence[WorkingCopy], image: torch.Tensor, target: Target) -> set[int]:
    """Rows about an image that one of the models has no answer to: nothing of theirs can be compared."""
    if not target.task.lacking:
        return set()
    images = image.expand(len(target), *image.shape)
    with torch.inference_mode():
        return {row for model in models for row in target.unanswered(model.call(images))}


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
