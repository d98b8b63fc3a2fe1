"""Images as a layer sees them: one row of numbers for each."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import adaptive_avg_pool2d

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.inspection.view import Layer, View

SIDE = 7  # places of a side that are told apart: more would cost memory and say nothing about what a layer holds alike


def features_of(view: View, role: str, layers: Sequence[Layer], side: int = SIDE) -> dict[str, NDArray[np.float64]]:
    """Activations (N,D) of the ``view.compared`` images in each layer, averaged to at most ``side`` x ``side`` places.

    Raises UnsupportedModelError for a layer whose activations are not finite.
    """
    parts: dict[str, list[NDArray[np.float64]]] = {each.name: [] for each in layers}
    for outputs in view.recorded(role, layers, view.rows[view.compared]):
        for layer in layers:
            parts[layer.name].append(_pooled(layer, outputs[layer.name], side))
    found = {name: np.concatenate(each) for name, each in parts.items()}
    for name, each in found.items():
        if not np.isfinite(each).all():
            raise UnsupportedModelError(
                f"layer {name!r} of model {view.by_role[role].label} gives NaN or infinite numbers: images cannot be "
                "compared in it"
            )
    return found


def _pooled(layer: Layer, values: torch.Tensor, side: int) -> NDArray[np.float64]:
    if layer.places is not None:
        grid = values.unflatten(2, (layer.places.rows, layer.places.columns))
        size = (min(side, layer.places.rows), min(side, layer.places.columns))
        values = adaptive_avg_pool2d(grid, size)
    return np.asarray(values.flatten(1).double().cpu().numpy())
