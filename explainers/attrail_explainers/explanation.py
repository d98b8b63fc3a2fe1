"""Explain: run explainers over images in chunks, so that memory stays small and evaluations are shared."""

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ExplanationError, SliceError
from attrail_explainers.explainer import Explainer, Maps, Need, make_explainer, name_of, parameters_of
from attrail_explainers.layers.target_layer import target_layer
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import SINGLE_LABEL, Target, Task, make_task
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.parameters import require_whole
from attrail_explainers.slice import Questions, Slice
from attrail_explainers.subject import Examples, Subject
from attrail_explainers.tasks.single_label import SingleLabel

Targets = Target | NDArray[np.int64]  # class indices stand for the classes of a single label
Progress = Callable[[int], object]

AT_ONCE = 16  # rows whose whole outputs are looked at together

logger = logging.getLogger("attrail.explainers")


def explain(
    module: torch.nn.Module,
    images: torch.Tensor | NDArray[np.float32],
    targets: Any = None,
    explainer: str = "gradcam",
    seed: int = 0,
    sample_ids: Sequence[str] | None = None,
    task: str | Task = SINGLE_LABEL,
    **parameters: Any,
) -> Attributions:
    """Explain images with one explainer, and return one map for each, without MLflow or Prefect.

    ::

        maps = explain(model, images, [3, 1], explainer="lime", evaluations=256)
        maps.values  # (2,H,W), signed, as the method gives them

    Args:
        module: A model from images (N,C,H,W) to logits, or to what else the task is about. It comes back as it went in;
            calls on one module wait for each other.
        images: (N,C,H,W) float32, as the module takes them.
        targets: What each map explains, as the task has it: (N,) class indices, of one label or 0 and 1; for
            "multi_label" the labels of each image, of which each gets a map; for "embedding" vectors (N,D), or None for
            the model's own; None for "regression".
        explainer: One of ``explainer_names()``.
        seed: Of all random draws, 0 or above; the same seed gives the same bytes.
        sample_ids: N different names, "0", "1", ... when None: an image's draws depend on its name and the seed alone.
        task: What is asked of the model: one of ``task_names()``, or a task with parameters of its own, such as which
            part of what the module returns is meant, ``make_task("single_label", {"output": "logits"})``.
        **parameters: The explainer's own, see ``make_explainer``.

    Raises UnknownNameError for an explainer that there is none of, ConfigError for a parameter, seed or target that
    cannot be, SliceError for images that cannot, UnsupportedModelError for a model that lacks what the explainer needs,
    ExplanationError when no image has a map.
    """
    classifier = asked_classifier(module, task)
    subjects, target = given_subjects(classifier, images, targets, sample_ids)
    method = make_explainer(explainer, parameters)
    (maps,) = explain_slice(classifier, subjects, [method], target, seed)
    return maps


def asked_classifier(module: torch.nn.Module, task: str | Task) -> Classifier:
    """A module that lives in this process, with what is asked of it."""
    made = make_task(task) if isinstance(task, str) else task
    return Classifier(type(module).__name__, "", module, task=made)


def given_subjects(
    classifier: Classifier,
    images: torch.Tensor | NDArray[np.float32],
    targets: Any,
    sample_ids: Sequence[str] | None,
) -> tuple[Slice, Target]:
    """Images and targets that a caller of Python gave, as a slice and what is asked of it."""
    pixels = pixels_of(images)
    names = tuple(str(name) for name in (range(len(pixels)) if sample_ids is None else sample_ids))
    task = classifier.asked
    subjects, target = task.given(targets, pixels, names)
    if task.leaves_open(subjects):
        subjects = subjects.asking(questions_found(classifier, subjects))
        target = task.asked(subjects)
    if target is None:
        target = task.answered(subjects, classifier.logits(pixels, names))
    return subjects, target


def questions_found(classifier: Classifier, slice_: Slice, classes: Sequence[str] = ()) -> Questions:
    """What the classifier's outputs ask of a slice that leaves it open, in ``classes`` of these names.

    Some rows at a time: whole outputs, such as masks, are large.
    """
    found: list[Questions] = []
    for start in range(0, len(slice_), AT_ONCE):
        part = slice_.rows(slice(start, start + AT_ONCE))
        outputs = classifier.logits(part.images, part.sample_ids, whole=True)
        found.append(classifier.asked.found(part, outputs, classes))
    return joined_questions(found, range(0, len(slice_), AT_ONCE))


def joined_questions(parts: Sequence[Questions], starts: Sequence[int]) -> Questions:
    """The questions of a slice from those of its parts, which begin at the rows ``starts``."""
    return Questions(
        np.concatenate([each.places + start for each, start in zip(parts, starts, strict=True)]),
        np.concatenate([each.labels for each in parts]),
        {name: np.concatenate([each.facts[name] for each in parts]) for name in parts[0].facts},
        None if parts[0].names is None else tuple(name for each in parts for name in each.names or ()),
    )


def pixels_of(images: torch.Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    """Images (N,C,H,W) as an array; SliceError names the first one with a number that is none."""
    pixels = np.asarray(torch.as_tensor(images).detach().cpu().numpy(), dtype=np.float32)
    for row, image in enumerate(pixels):
        if not np.isfinite(image).all():
            raise SliceError(f"image {row} holds NaN or infinite values: leave it out, or correct its normalisation")
    return pixels


def explain_slice(
    classifier: Classifier,
    slice_: Slice,
    explainers: Sequence[Explainer],
    targets: Targets,
    seed: int,
    progress: Progress = lambda images: None,
) -> list[Attributions]:
    """Attributions of each explainer on a slice; superpixel methods with equal settings share their evaluations.

    ``targets`` are what each map explains, N rows. ``progress`` is called with the number of maps done.
    """
    attributions = explain_part(classifier, slice_, explainers, targets, seed, progress)
    for maps in attributions:
        require_some_map(maps)
    return attributions


@torch.inference_mode(False)  # the caller's own inference mode would leave no gradients to explain with
def explain_part(
    classifier: Classifier,
    part: Slice,
    explainers: Sequence[Explainer],
    targets: Targets,
    seed: int,
    progress: Progress = lambda images: None,
) -> list[Attributions]:
    """Attributions of each explainer on a part of a slice, as ``explain_slice`` makes them of a whole one.

    That none of the part's images has a map says nothing of the slice, and is no error here.

    Explainers that need other images look for them in this part alone.
    """
    if len(part) == 0:
        raise SliceError(f"slice {part.name!r} is empty: there is nothing to explain")
    seed = require_whole("seed", seed, 0)
    target = targets if isinstance(targets, Target) else SingleLabel.of(targets)
    classifier = classifier.for_images(part.preprocessing)
    classifier.require(target, part.images)
    model = classifier.working_copy(part.images)
    forced = classifier.target_layer
    layers = model.fitting(lambda: [_layer_for(explainer, forced, model, part.images) for explainer in explainers])
    subjects = _subjects(model, part, target, seed)

    def chunk(start: int) -> list[Maps]:
        subject = subjects(start)
        lacking = unanswered(subject)
        pairs = zip(explainers, layers, strict=True)
        found = [_attribute(explainer, subject.with_layer(layer), progress) for explainer, layer in pairs]
        return [without(maps, lacking) for maps in found] if lacking else found

    parts: list[list[Maps]] = [[] for _ in explainers]
    start = 0
    while start < len(part):
        chunk_maps = model.fitting(partial(chunk, start))
        for maps, found in zip(chunk_maps, parts, strict=True):
            found.append(maps)
        start += len(chunk_maps[0].values)
    return [
        _attributions(classifier, part, explainer, layer, target, seed, maps)
        for explainer, layer, maps in zip(explainers, layers, parts, strict=True)
    ]


def _subjects(model: WorkingCopy, part: Slice, target: Target, seed: int) -> Callable[[int], Subject]:
    """The subject of a batch of rows, from a first one on.

    What its images were evaluated for is kept for the next batch, whose first rows may be about the last of them.
    """
    examples, shared = Examples(part.images, part.pictured), dict[tuple[Hashable, ...], Any]()
    asked, places = None, np.zeros(len(part), dtype=np.int64)
    if part.image_ids is not None:
        bounds = list(pairwise(part.starts.tolist()))
        asked = {part.image_ids[start]: target.rows(slice(start, stop)) for start, stop in bounds}
        places = np.concatenate([np.arange(stop - start) for start, stop in bounds])

    def subject(start: int) -> Subject:
        rows = slice(start, min(start + model.batch, len(part)))
        images, ids = torch.from_numpy(np.array(part.images[rows])).to(model.device), part.pictured[rows]
        for key in [each for each in shared if each[0] not in ids]:
            del shared[key]
        own = (target.rows(rows), ids, seed)
        return Subject(model, images, *own, examples=examples, shared=shared, asked=asked, places=tuple(places[rows]))

    return subject


def unanswered(subject: Subject) -> dict[int, str]:
    """Rows of a subject that the model itself has no answer to, and why; only tasks that have such are asked."""
    if not subject.target.task.lacking:
        return {}
    with torch.inference_mode():
        return subject.target.unanswered(subject.model.call(subject.images))


def without(maps: Maps, lacking: Mapping[int, str]) -> Maps:
    """The maps without those of some rows."""
    values = np.array(maps.values, dtype=np.float32)
    values[list(lacking)] = np.nan
    return replace(maps, values=values, undefined={**maps.undefined, **lacking})


def require_some_map(attributions: Attributions) -> None:
    """Raise ExplanationError when an explainer gave no map for any image of a slice."""
    undefined = attributions.undefined
    if len(undefined) == len(attributions.sample_ids):
        raise ExplanationError(
            f"{attributions.explainer} gives no map for any image of slice {attributions.slice_name!r} on model "
            f"{attributions.model}: {next(iter(undefined.values()))}"
        )


def with_layer_found(explainer: Explainer, classifier: Classifier, images: NDArray[np.float32]) -> Explainer:
    """The explainer with the target layer that it finds on images (N,C,H,W) among its parameters, if it needs one."""
    parameters = parameters_of(explainer)
    if Need.LAYER not in explainer.needs or "layer" not in parameters:
        return explainer
    model = classifier.working_copy(images)
    model.require_numbers()
    layer = model.fitting(lambda: _layer_for(explainer, classifier.target_layer, model, images))
    return make_explainer(name_of(explainer), parameters | {"layer": layer})


def _attribute(explainer: Explainer, subject: Subject, progress: Progress) -> Maps:
    """The explainer's maps; progress counts image by image where it works so, else all at the end."""
    left = len(subject)

    def row_done() -> None:
        nonlocal left
        left -= 1
        progress(1)

    maps = explainer.attribute(replace(subject, row_done=row_done))
    progress(left)
    return maps


def _layer_for(explainer: Explainer, forced: str | None, model: WorkingCopy, images: NDArray[np.float32]) -> str | None:
    """The target layer, by the name that was asked for: versions are compared under the same names."""
    if Need.LAYER not in explainer.needs:
        return None
    example = torch.from_numpy(np.array(images[:1])).to(model.device)
    asked = getattr(explainer, "layer", None) or forced
    layer = target_layer(model, example, asked).name
    if asked not in (None, layer):
        logger.info("layer %r is %r in model %s", asked, layer, model.label)
    return asked or layer


def _attributions(
    classifier: Classifier,
    slice_: Slice,
    explainer: Explainer,
    layer: str | None,
    target: Target,
    seed: int,
    parts: Sequence[Maps],
) -> Attributions:
    name = name_of(explainer)
    values = np.concatenate([maps.values for maps in parts]).astype(np.float32, copy=False)
    undefined: dict[str, str] = {}
    start = 0
    for maps in parts:
        undefined |= {slice_.sample_ids[start + row]: reason for row, reason in maps.undefined.items()}
        start += len(maps.values)
    parameters: Mapping[str, Any] = parameters_of(explainer) | {"seed": seed}
    if layer is not None:
        parameters = {**parameters, "layer": layer}
    return Attributions(
        explainer=name,
        parameters=parameters,
        values=values,
        targets=target.classes,
        sample_ids=slice_.sample_ids,
        slice_name=slice_.name,
        slice_digest=slice_.digest,
        model=classifier.label,
        weights_digest=classifier.weights_digest,
        program_digest=classifier.program_digest,
        target=target.digest,
        undefined=undefined,
        diagnostics=_joined_diagnostics(parts),
    )


def _joined_diagnostics(parts: Sequence[Maps]) -> dict[str, NDArray[np.float64]]:
    """Every part's diagnostics (N,), NaN for the images of a part that has none of a name: it has no map."""
    names = dict.fromkeys(name for maps in parts for name in maps.diagnostics)
    return {
        name: np.concatenate([maps.diagnostics.get(name, np.full(len(maps.values), np.nan)) for maps in parts])
        for name in names
    }
