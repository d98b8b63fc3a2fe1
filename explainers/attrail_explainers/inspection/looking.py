"""Look inside: exhibits of one version, or of two beside each other, on a slice."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from numpy.typing import NDArray

from attrail_explainers.errors import IncomparableError, SliceError, UnsupportedModelError
from attrail_explainers.explanation import asked_classifier, given_subjects
from attrail_explainers.inspection.exhibit import Exhibit, Shown, make_exhibit
from attrail_explainers.inspection.view import View
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import SINGLE_LABEL, Target, Task
from attrail_explainers.parameters import require_whole
from attrail_explainers.slice import Slice


def look_inside(  # noqa: PLR0913, PLR0917 - what explain takes, and the other version
    module: torch.nn.Module,
    images: torch.Tensor | NDArray[Any],
    targets: Any = None,
    exhibit: str = "structure",
    reference: torch.nn.Module | None = None,
    seed: int = 0,
    sample_ids: Sequence[str] | None = None,
    task: str | Task = SINGLE_LABEL,
    **parameters: Any,
) -> Shown:
    """Look inside a model, and at what changed inside since ``reference`` if there is one.

    ::

        seen = look_inside(candidate, images, [3, 1], "activations", reference=champion)
        seen.rows  # one for each layer; seen.arrays has every number

    Args:
        module: A model as ``explain`` takes it; it comes back as it went in.
        images: (N,C,H,W) float32, as the module takes them.
        targets: What is asked of each image, as ``explain`` takes it.
        exhibit: One of ``exhibit_names()``.
        reference: The version that the module is held against, None to look at the module alone.
        seed: Of all random draws, 0 or above; the same seed gives the same bytes.
        sample_ids: N different names, "0", "1", ... when None.
        task: What is asked of the model, as ``explain`` takes it.
        **parameters: The exhibit's own.

    Raises UnknownNameError for an exhibit that there is none of, ConfigError for a parameter that cannot be, and
    UnsupportedModelError for a model to which the exhibit does not apply.
    """
    made = make_exhibit(exhibit, parameters)
    modules = [module] if reference is None else [reference, module]
    classifiers = tuple(asked_classifier(each, task) for each in modules)
    subjects, target = given_subjects(classifiers[0], images, targets, sample_ids)
    return _shown(view_of(classifiers, subjects, target, seed), made)


def view_of(classifiers: Sequence[Classifier], slice_: Slice, target: Target, seed: int) -> View:
    """One version, or a reference and a candidate, to be looked at on a slice.

    Raises SliceError for an empty slice, IncomparableError for two versions with other numbers of answers.
    """
    if len(slice_) == 0:
        raise SliceError(f"slice {slice_.name!r} is empty: there is nothing to look at")
    for each in classifiers:
        each.require(target, slice_.images)
    counts = [each.working_copy(slice_.images).classes for each in classifiers]
    if len(set(counts)) > 1:
        first, second = classifiers
        raise IncomparableError(
            f"{first.label} has {counts[0]} {target.task.answers}, {second.label} has {counts[1]}: only versions that "
            "answer alike can be looked at beside each other"
        )
    return View(tuple(classifiers), slice_, target, require_whole("seed", seed, 0))


def show(view: View, exhibits: Mapping[str, Exhibit], name: str) -> Shown:
    """What an exhibit shows of a view; where it does not apply, ``absent`` says why."""
    try:
        return _shown(view, exhibits[name])
    except UnsupportedModelError as error:
        return Shown(absent=str(error))


@torch.inference_mode(False)  # as in explain_slice
def _shown(view: View, exhibit: Exhibit) -> Shown:
    work = partial(exhibit.show, view)
    for model in view.models.values():
        work = partial(model.fitting, work)
    return work()
