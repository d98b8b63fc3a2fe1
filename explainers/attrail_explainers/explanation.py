"""Explain: run explainers over images in chunks, so that memory stays small and evaluations are shared."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ConfigError, ExplanationError, SliceError
from attrail_explainers.explainer import Explainer, Maps, Need, make_explainer, name_of, parameters_of
from attrail_explainers.layers.target_layer import target_layer
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.parameters import require_whole
from attrail_explainers.slice import Slice
from attrail_explainers.subject import Examples, Subject

Progress = Callable[[int], object]

logger = logging.getLogger("attrail.explainers")


def explain(
    module: torch.nn.Module,
    images: torch.Tensor | NDArray[np.float32],
    targets: torch.Tensor | NDArray[np.int64] | Sequence[int],
    explainer: str = "gradcam",
    seed: int = 0,
    sample_ids: Sequence[str] | None = None,
    **parameters: Any,
) -> Attributions:
    """Explain images with one explainer, and return one map for each, without MLflow or Prefect.

    ::

        maps = explain(model, images, [3, 1], explainer="lime", evaluations=256)
        maps.values  # (2,H,W), signed, as the method gives them

    Args:
        module: A classifier from images (N,C,H,W) to logits. It comes back as it went in; calls on one module wait for
            each other.
        images: (N,C,H,W) float32, as the module takes them.
        targets: (N,) class indices: the class that each map explains.
        explainer: One of ``explainer_names()``.
        seed: Of all random draws, 0 or above; the same seed gives the same bytes.
        sample_ids: N different names, "0", "1", ... when None: an image's draws depend on its name and the seed alone.
        **parameters: The explainer's own, see ``make_explainer``.

    Raises UnknownNameError for an explainer that there is none of, ConfigError for a parameter, seed or target that
    cannot be, SliceError for images that cannot, UnsupportedModelError for a model that lacks what the explainer needs,
    ExplanationError when no image has a map.
    """
    pixels = pixels_of(images)
    labels = class_indices(targets)
    names = tuple(str(name) for name in (range(len(pixels)) if sample_ids is None else sample_ids))
    subjects = Slice("images", pixels, labels, names)
    method = make_explainer(explainer, parameters)
    (maps,) = explain_slice(Classifier(type(module).__name__, "", module), subjects, [method], labels, seed)
    return maps


def pixels_of(images: torch.Tensor | NDArray[np.float32]) -> NDArray[np.float32]:
    """Images (N,C,H,W) as an array; SliceError names the first one with a number that is none."""
    pixels = np.asarray(torch.as_tensor(images).detach().cpu().numpy(), dtype=np.float32)
    for row, image in enumerate(pixels):
        if not np.isfinite(image).all():
            raise SliceError(f"image {row} holds NaN or infinite values: leave it out, or correct its normalisation")
    return pixels


def class_indices(targets: torch.Tensor | NDArray[np.int64] | Sequence[int]) -> NDArray[np.int64]:
    """Targets (N,) as an array; ConfigError unless they are N whole numbers: 1.7 is no class."""
    classes = np.asarray(targets.detach().cpu() if isinstance(targets, torch.Tensor) else targets)
    if classes.size and classes.dtype.kind not in "iu":
        raise ConfigError(f"targets must be class indices, which are whole numbers, not {classes.flat[0]!r}")
    if classes.ndim != 1:
        raise ConfigError(f"targets must be one class index for each image, got an array of shape {classes.shape}")
    return classes.astype(np.int64)


def explain_slice(
    classifier: Classifier,
    slice_: Slice,
    explainers: Sequence[Explainer],
    targets: NDArray[np.int64],
    seed: int,
    progress: Progress = lambda images: None,
) -> list[Attributions]:
    """Attributions of each explainer on a slice; superpixel methods with equal settings share their evaluations.

    ``targets`` (N,) is the class each map explains. ``progress`` is called with the number of maps done.
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
    targets: NDArray[np.int64],
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
    classifier.require_classes(targets, part.images)
    model = classifier.working_copy(part.images)
    forced = classifier.target_layer
    layers = model.fitting(lambda: [_layer_for(explainer, forced, model, part.images) for explainer in explainers])
    examples = Examples(part.images, part.sample_ids)

    def chunk(start: int) -> list[Maps]:
        rows = slice(start, min(start + model.batch, len(part)))
        images, classes = (torch.from_numpy(np.array(each[rows])).to(model.device) for each in (part.images, targets))
        subject = Subject(model, images, classes, part.sample_ids[rows], seed, examples=examples)
        pairs = zip(explainers, layers, strict=True)
        return [_attribute(explainer, subject.with_layer(layer), progress) for explainer, layer in pairs]

    parts: list[list[Maps]] = [[] for _ in explainers]
    start = 0
    while start < len(part):
        chunk_maps = model.fitting(partial(chunk, start))
        for maps, found in zip(chunk_maps, parts, strict=True):
            found.append(maps)
        start += len(chunk_maps[0].values)
    return [
        _attributions(classifier, part, explainer, layer, targets, seed, maps)
        for explainer, layer, maps in zip(explainers, layers, parts, strict=True)
    ]


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
    targets: NDArray[np.int64],
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
        targets=targets,
        sample_ids=slice_.sample_ids,
        slice_name=slice_.name,
        slice_digest=slice_.digest,
        model=classifier.label,
        weights_digest=classifier.weights_digest,
        program_digest=classifier.program_digest,
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
