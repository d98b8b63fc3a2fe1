"""What speaks loudest in a layer: which images of the slice a channel likes, and which it matters for."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.inspection.exhibit import Picture
from attrail_explainers.inspection.view import Layer, View, answered
from attrail_explainers.layers.activations import logits_from
from attrail_explainers.model.places import TargetLayer

AROUND = 1.5  # places on every side of a peak that are outlined


@dataclass(frozen=True, eq=False)
class ChannelScores:
    """How N images speak in C channels of a layer, (N,C) each.

    ``largest`` is the largest activation over places, ``peak`` (N,C) at which place it is, ``mean`` the mean over
    places, ``relevance`` the sum over places of activation times the gradient of what is asked.
    """

    largest: NDArray[np.float64]
    mean: NDArray[np.float64]
    relevance: NDArray[np.float64]
    peak: NDArray[np.int64]


def channel_scores(view: View, role: str, layer: Layer) -> ChannelScores:
    """How the images of the slice speak in a layer of one version; what is asked is the first question of each image.

    UnsupportedModelError when no gradient leads back to the layer.
    """
    parts: list[tuple[torch.Tensor, ...]] = []
    for batch in view.batches(role):
        subject = view.subject(role, batch)
        found = TargetLayer(view.own_name(role, layer.name), layer.places, linear=False)  # type: ignore[arg-type]
        leaf, outputs = logits_from(subject, found)
        if not outputs.requires_grad:
            raise UnsupportedModelError(
                f"model {subject.model.label}: no gradient leads back from its outputs to layer {layer.name!r}"
            )
        there = answered(subject.target, outputs)
        (gradient,) = torch.autograd.grad(subject.target.slope(outputs)[there].sum(), leaf)
        values, slopes = (layer.channels(each.detach())[: len(batch)].double() for each in (leaf, gradient))
        largest, peak = values.max(dim=2)
        parts.append((largest, values.mean(dim=2), (values * slopes).sum(dim=2), peak))
    return ChannelScores(*(torch.cat(each).cpu().numpy() for each in zip(*parts, strict=True)))


def most_relevant_channels(scores: Sequence[ChannelScores], count: int) -> NDArray[np.int64]:
    """The channels on which most of what is asked rests, in any of the versions, in the mean over images."""
    shares = [np.abs(each.relevance).mean(axis=0) for each in scores]
    shares = [each / (each.sum() or 1.0) for each in shares]
    return np.argsort(-np.max(shares, axis=0), kind="stable")[:count]


def best_images(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Which images have the largest values (N,), largest first."""
    return np.argsort(-values, kind="stable")[:count]


def example(view: View, layer: Layer, image: int, peak: int, value: float) -> Picture:
    """An image of the slice with its value, and with the place outlined at which a channel is most active."""
    pixels = view.slice_.picture(int(view.rows[image])).copy()
    if layer.places is not None:
        height, width = pixels.shape[0] / layer.places.rows, pixels.shape[1] / layer.places.columns
        row, column = divmod(peak, layer.places.columns)
        top, bottom = (_within((row + 0.5 + side * AROUND) * height, pixels.shape[0]) for side in (-1, 1))
        left, right = (_within((column + 0.5 + side * AROUND) * width, pixels.shape[1]) for side in (-1, 1))
        thick = max(1, round(min(pixels.shape[:2]) / 96))
        edge = np.zeros(pixels.shape[:2], dtype=bool)
        edge[top : bottom + 1, left : right + 1] = True
        edge[top + thick : bottom + 1 - thick, left + thick : right + 1 - thick] = False
        pixels[edge] = (255, 255, 0)
    return Picture(f"{view.image_names[image]}: {value:.2g}", pixels)


def _within(place: float, size: int) -> int:
    return int(min(max(round(place), 0), size - 1))
