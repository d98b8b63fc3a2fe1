"""Nearest examples: the other image that the model sees most alike, and the places that make it so."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.layers.target_layer import target_layer
from attrail_explainers.model.places import TargetLayer
from attrail_explainers.parameters import require_layer
from attrail_explainers.subject import Examples, Subject


@dataclass(frozen=True)
class NearestExamples:
    """Similarity to the nearest other image of the slice, place by place (Stylianou et al., WACV 2019).

    The features of an image are the mean activations of the target layer, their similarity is the cosine. The map
    holds each place's share on the layer's own grid; its mean is the similarity. It does not depend on the
    target, but it depends on the slice: other images, another neighbour. ``layer`` overrides the layer that is
    found by itself.

    Diagnostics: ``neighbour``, the neighbour's row in the slice (0..N-1; of equally near images the one whose sample id
    sorts first), and ``similarity`` (-1..1). Undefined where the slice has no other image or a feature is zero.
    """

    layer: str | None = None

    needs: ClassVar[frozenset[Need]] = frozenset({Need.LAYER, Need.EXAMPLES})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.UNTARGETED})

    def __post_init__(self) -> None:
        require_layer(self.layer)

    def attribute(self, subject: Subject) -> Maps:
        examples = subject.examples or Examples(subject.images.cpu().numpy(), subject.sample_ids)
        layer = target_layer(subject.model, subject.images, subject.target_layer)
        units = _units(subject, examples, layer)
        activations = np.concatenate(list(_activations(subject, subject.images, layer)))
        values = np.full((len(subject), *activations.shape[2:]), np.nan)
        undefined, neighbour, similarity = {}, np.full(len(subject), np.nan), np.full(len(subject), np.nan)
        for row, sample_id in enumerate(subject.sample_ids):
            found = nearest(units, examples.sample_ids, sample_id)
            if found is None:
                undefined[row] = "the slice has no other image with features to compare"
                continue
            neighbour[row] = found
            values[row] = shares(activations[row], units[found])
            similarity[row] = values[row].mean()
        return Maps(values.astype(np.float32), undefined, {"neighbour": neighbour, "similarity": similarity})


def nearest(units: NDArray[np.float64], sample_ids: tuple[str, ...], sample_id: str) -> int | None:
    """Row of the unit features (N,C) nearest to those of ``sample_id``; None when nothing can be compared."""
    own = [row for row, each in enumerate(sample_ids) if each == sample_id]  # several ask about one image
    cosines = np.einsum("nc,c->n", units, units[own[0]])  # row by row, unlike a matrix product: N does not matter
    cosines[own] = np.nan
    if np.isnan(cosines).all():
        return None
    rows = np.flatnonzero(cosines == np.nanmax(cosines))
    return int(min(rows, key=lambda row: sample_ids[row]))


def shares(activations: NDArray[np.float64], unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each place's share (h,w) in the cosine of an image's mean activations (C,h,w) with a unit feature (C,)."""
    length = np.linalg.norm(activations.mean(axis=(1, 2)))
    return np.asarray(np.einsum("chw,c->hw", activations, unit) / length)


def _units(subject: Subject, examples: Examples, layer: TargetLayer) -> NDArray[np.float64]:
    """Features (N,C) of all examples, divided by their length; NaN where that is zero. Computed once per layer."""
    name = f"mean activations of {layer.name}"
    if name not in examples.features:
        images = torch.from_numpy(np.array(examples.images))
        features = np.concatenate([each.mean(axis=(2, 3)) for each in _activations(subject, images, layer)])
        length = np.linalg.norm(features, axis=1, keepdims=True)
        examples.features[name] = features / np.where(length > 0, length, np.nan)
    return examples.features[name]


def _activations(subject: Subject, images: torch.Tensor, layer: TargetLayer) -> Iterator[NDArray[np.float64]]:
    """Activations (M,C,h,w) of a layer, batch by batch."""
    model = subject.model
    outputs: list[torch.Tensor] = []

    def keep(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> None:
        outputs.append(output.clone())  # an in-place activation that follows would write into the output itself

    for chunk in model.chunks(images):
        with torch.inference_mode(), model.hooks({layer.name: keep}):
            model.call(chunk.to(model.device), hooked=True)
        grid = layer.places.grid(outputs.pop())[: len(chunk)]
        yield grid.cpu().double().contiguous().numpy()


METHOD = NearestExamples
