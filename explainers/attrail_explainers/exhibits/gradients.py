"""Gradients: what would change in each layer if the version were trained on this slice, and where gradients fade."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import softplus

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_explainers.inspection.view import View, answered
from attrail_explainers.model.task import Target
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.parameters import require_whole, settle

EXPONENTS = (-12, 2)  # orders of magnitude of gradients that a histogram tells apart; what lies beyond is at its ends
REACH = 4.0  # standard deviations of the reference's weights that a histogram reaches to
FADED = 1e-3  # of the largest layer's gradient norm: below it a layer hardly learns beside the others

Weights = dict[str, dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Gradients:
    """Norm of the gradient of the slice's own loss in the weights of every layer, with histograms of both.

    The loss is the mean cross-entropy of what is asked: the softplus of minus its log odds. Where scores are no log
    odds, as in regression, it is the mean score itself. ``bins`` is how many bars a histogram has.
    """

    bins: int = 28

    title: ClassVar[str] = "Gradients"

    def __post_init__(self) -> None:
        require_whole("bins", self.bins, 2)
        settle(self)

    def show(self, view: View) -> Shown:
        found = {role: _gradients(view, role) for role in view.roles}
        weights = {role: _weights(view, role) for role in view.roles}
        names = list(dict.fromkeys(name for each in weights.values() for name in each))
        rows, panels, arrays = [], [], dict[str, NDArray[Any]]()
        for name in names:
            row, panel, own = self._layer(name, weights, found)
            rows.append(row)
            panels += panel
            arrays |= own
        return Shown(tuple(rows), ("gradient", "to_weights"), arrays, tuple(panels), _sentences(rows, view))

    def _layer(
        self, name: str, weights: Mapping[str, Weights], gradients: Mapping[str, Weights]
    ) -> tuple[dict[str, Any], list[Panel], dict[str, NDArray[Any]]]:
        """The row, the panels and the arrays of a layer."""
        row: dict[str, Any] = {"layer": name, "gradient": {}, "to_weights": {}, "zero": {}}
        arrays, shown = {}, dict[str, list[Picture]](gradients=[], weights=[])
        reach = REACH * float(_flat(next(each[name] for each in weights.values() if name in each)).std(correction=0))
        for role, layers in weights.items():
            if name not in layers:
                continue
            weight, gradient = _flat(layers[name]), _flat(gradients[role][name])
            norm, length = float(gradient.norm()), float(weight.norm())
            row["gradient"][role], row["zero"][role] = norm, float((gradient == 0).double().mean())
            row["to_weights"][role] = norm / length if length else None
            sizes = gradient[gradient != 0].abs().log10()
            counts = {
                "gradients": self._counts(sizes, *EXPONENTS),
                "weights": self._counts(weight, -(reach or 1.0), reach or 1.0),
            }
            for kind, each in counts.items():
                shown[kind].append(Picture(role, each))
                arrays[f"{role}/{name}/{kind}"] = each
        titles = {
            "gradients": f"gradients, 1e{EXPONENTS[0]} to 1e{EXPONENTS[1]}",
            "weights": f"weights, -{reach:.2g} to {reach:.2g}",
        }
        return row, [Panel(name, titles[kind], tuple(each)) for kind, each in shown.items()], arrays

    def _counts(self, values: torch.Tensor, least: float, most: float) -> NDArray[np.int64]:
        inside = values.clamp(least, most)
        return np.histogram(inside.numpy(), bins=self.bins, range=(least, most))[0].astype(np.int64)


def loss_of(target: Target, outputs: torch.Tensor) -> torch.Tensor:
    """The loss (N,) of outputs (N,...): cross-entropy where scores are log odds, else the score."""
    score = target.score(outputs)
    return softplus(-score) if target.task.link else score


def _weights(view: View, role: str) -> Weights:
    return _by_layer(view, role, {name: each.detach() for name, each in _parameters(view.models[role]).items()})


def _parameters(model: WorkingCopy) -> dict[str, torch.nn.Parameter]:
    found = {name: each for name, each in model.module.named_parameters() if each.is_floating_point()}
    if not found:
        raise UnsupportedModelError(
            f"model {model.label} has no weights that torch knows: without them there are no gradients to show"
        )
    return found


def _gradients(view: View, role: str) -> Weights:
    """The mean gradient over the rows that have an answer, by layer and name; 0 for weights without influence.

    Raises UnsupportedModelError where no gradient leads back to weights, or no row has an answer.
    """
    model, count = view.models[role], 0
    parameters = _parameters(model)
    sums = {name: torch.zeros(each.shape, dtype=torch.float64) for name, each in parameters.items()}
    with model.hooks({}), _differentiable(parameters.values()):
        for batch in view.batches(role, np.arange(len(view.slice_))):
            outputs, target = model.call(view.images(batch, role), hooked=True), view.target.rows(batch)
            if not outputs.requires_grad:
                raise UnsupportedModelError(
                    f"model {model.label} can only be called: no gradient leads back from its outputs to its weights"
                )
            there = answered(target, outputs)
            count += len(there)
            loss = loss_of(target, outputs)[there].sum()
            found = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
            for name, part in zip(sums, found, strict=True):
                if part is not None:
                    sums[name] += part.cpu().double()
    if not count:
        raise UnsupportedModelError(f"model {model.label} answers nothing of what is asked: there is no loss")
    return _by_layer(view, role, {name: (total / count).float() for name, total in sums.items()})


@contextlib.contextmanager
def _differentiable(parameters: Iterable[torch.nn.Parameter]) -> Iterator[None]:
    """Gradients in weights, for the time of a block."""
    try:
        for each in parameters:
            each.requires_grad_(True)
        yield
    finally:
        for each in parameters:
            each.requires_grad_(False)


def _by_layer(view: View, role: str, tensors: Mapping[str, torch.Tensor]) -> Weights:
    found: Weights = {}
    for name, tensor in tensors.items():
        layer, _, own = name.rpartition(".")
        found.setdefault(view.shared_name(role, layer), {})[own] = tensor
    return found


def _flat(tensors: Mapping[str, torch.Tensor]) -> torch.Tensor:
    return torch.cat([each.cpu().double().flatten() for each in tensors.values()])


def _sentences(rows: Sequence[Mapping[str, Any]], view: View) -> tuple[str, ...]:
    found = []
    for role in view.roles:
        norms = {row["layer"]: row["gradient"][role] for row in rows if role in row["gradient"]}
        whose = f"{role}: " if view.pair else ""
        largest = max(norms, key=lambda name: norms[name])
        faded = [name for name, norm in norms.items() if norm < FADED * norms[largest]]
        lead = f"{whose}the largest gradient is that of {largest or 'the model itself'}, {norms[largest]:.2g}"
        less = f"; below a thousandth of it are {', '.join(faded[:6])}" + (" ..." if len(faded) > 6 else "")
        found.append(lead + (less if faded else "; no layer is below a thousandth of it") + ".")
    return tuple(each[0].upper() + each[1:] for each in found)


EXHIBIT = Gradients
