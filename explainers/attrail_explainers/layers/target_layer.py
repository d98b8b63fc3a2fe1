"""The layer whose activations stand for "where": found among the activations of one call, and checked before use."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.layers.probing import Probing, agree, changes
from attrail_explainers.model.drawn_anew import own_weights
from attrail_explainers.model.places import (
    Form,
    Places,
    TargetLayer,
    arrangements,
    likeliest,
    otherwise,
    token_arrangements,
)
from attrail_explainers.model.working_copy import Activation, WorkingCopy

LAST = 32  # so many layers, from the last on, are looked at: more than one transformer block has
ONNX = "onnx"  # where ``model.onnx_graph`` keeps the operators of a graph
ADVICE = "set the explainer's parameter layer, or use shap or lime, which only call the model"

Readings = dict[str, list[Places]]


def target_layer(model: WorkingCopy, images: torch.Tensor, forced: str | None = None) -> TargetLayer:
    """The last submodule through whose places all evidence passes; found once for a model on images (N,C,H,W).

    In a convolutional classifier that is the input of the global pooling, the layer Grad-CAM's authors use (Selvaraju
    et al., ICCV 2017, section 3). In a transformer that reads its class token it is the first norm of the last block:
    what that block gives at the other tokens reaches no logit. A ``forced`` layer is checked as a found one is; in a
    model that holds the same network in a wrapper, or without one, it is the layer of that name but for the wrapper's
    prefix. Raises UnsupportedModelError when no layer passes, naming the check that failed.
    """
    with model.hooks({}):  # sole use: other threads wait for what this one finds
        if forced not in model.target_layers:
            model.target_layers[forced] = _found(model, images, forced)
        return model.target_layers[forced]


def token_layer(model: WorkingCopy, images: torch.Tensor, tokens: int) -> TargetLayer:
    """The last submodule before the head that gives ``tokens`` tokens for images (N,C,H,W), otherwise unchecked.

    Raises UnsupportedModelError when there is none, or when they may be several grids of places.
    """
    for activation in reversed(_body(model)):
        if len(activation.shape) == 2 and activation.shape[0] == tokens:
            grids = readings(model, activation, images)
            if len(grids) > 1:
                raise UnsupportedModelError(
                    f"model {model.label} does not show where its tokens are: {_doubt(grids)}; use shap or lime, which "
                    "only call the model"
                )
            if grids:
                return TargetLayer(activation.layer, grids[0], linear=False)
    raise UnsupportedModelError(
        f"model {model.label} has no layer that gives the {tokens} tokens of its attention as a grid of places"
    )


def heads(model: WorkingCopy) -> list[str]:
    """The classification layers: the last submodule with weights of its own and all others with the same output.

    None when that last output is not one number per class. Of a model that answers at each place these are all with a
    number per class, in whatever resolution: auxiliary heads have one of their own.
    """
    weighed = [activation for activation in model.activations if own_weights(model.module, activation.layer)]
    if not weighed or model.outputs not in weighed[-1].shape:
        return []
    whole, last = model.task.whole, weighed[-1].shape
    alike = [each for each in weighed if (each.shape == last if whole else _of_classes(model, each))]
    return list(dict.fromkeys(each.layer for each in alike))


def _found(model: WorkingCopy, images: torch.Tensor, forced: str | None) -> TargetLayer:
    if forced is not None and forced not in dict(model.module.named_modules()):
        return _renamed(model, images, forced)
    readings = _candidates(model, images) if forced is None else _forced(model, images, forced)
    probing, ends, flaws = Probing.of(model, images, list(readings)), heads(model), []
    for name, places in _backwards(readings):
        tokens = [each for each in readings[name] if each.form is Form.TOKENS]
        flaw = _doubt(tokens) if len(tokens) > 1 else probing.flaw(name, places)
        if flaw is None and probing.ignores(ends, name, places):
            flaw = "its map does not change when the head is drawn anew"
        if flaw is None and (forced is not None or not probing.misses_evidence(name, readings)):
            return TargetLayer(name, places, probing.is_linear(name, places))
        flaws.append((name, flaw or "evidence passes it by"))
    last, flaw = flaws[0]
    raise UnsupportedModelError(
        f"layer {last!r} of model {model.label} does not say where the evidence is: {flaw}; {ADVICE}"
    )


def _candidates(model: WorkingCopy, images: torch.Tensor) -> Readings:
    """The layers before the head that may be the target, in the order in which they finish."""
    body = _body(model)
    runs = Counter(each.layer for each in body)
    found = {each.layer: readings(model, each, images) for each in body}
    once = {name: places for name, places in found.items() if places and runs[name] == 1}
    if not once:
        again = [f"; layer {name!r} ran {runs[name]} times" for name, places in found.items() if places]
        raise UnsupportedModelError(
            f"model {model.label} has no layer with activations on a grid of places before its pooling"
            f"{again[-1] if again else ''}: {ADVICE}"
        )
    return _of_usual_width(dict(list(once.items())[-LAST:]))


def _renamed(model: WorkingCopy, images: torch.Tensor, layer: str) -> TargetLayer:
    """The layer that another version of the network calls ``layer``, where a wrapper alone makes the difference.

    Wrappers (Lightning, DataParallel, torch.compile, one for serving) put a prefix before all names. An ONNX graph has
    no names of layers at all: beside one, each model's own layer is the one.
    """
    own = target_layer(model, images)
    if ONNX in {layer.partition(".")[0], own.name.partition(".")[0]}:
        return own
    wrapped = [name for name, _ in model.module.named_modules() if name.endswith(f".{layer}")]
    if layer.endswith(f".{own.name}") or own.name in wrapped:
        return own
    if len(wrapped) == 1:
        return target_layer(model, images, wrapped[0])
    raise UnsupportedModelError(
        f"model {model.label} has no layer {layer!r}, nor one that is called so but for a wrapper's prefix; the layer "
        f"found in it is {own.name!r}: log both versions under the same names, or {ADVICE}"
    )


def _forced(model: WorkingCopy, images: torch.Tensor, layer: str) -> Readings:
    runs = [activation for activation in model.activations if activation.layer == layer]
    places = [reading for activation in runs for reading in readings(model, activation, images)]
    if len(runs) != 1 or not places:
        got = f"ran {len(runs)} times" if len(runs) > 1 else f"gave {runs[0].shape if runs else 'what it took'}"
        raise UnsupportedModelError(
            f"layer {layer!r} of model {model.label} {got} in one forward pass: expected a layer that runs once and "
            f"gives new activations of places, (C,h,w), (h,w,C) or (tokens,C); {ADVICE}"
        )
    return {layer: places}


def _body(model: WorkingCopy) -> list[Activation]:
    """The activations before the last classification layer."""
    names, ends = [each.layer for each in model.activations], heads(model)
    body = list(model.activations[: names.index(ends[-1])] if ends else model.activations)
    return body if model.task.whole else [each for each in body if not _of_classes(model, each)]


def _of_classes(model: WorkingCopy, activation: Activation) -> bool:
    """Whether an activation may be a head's, or what holds the head, in a model that answers at each place.

    An auxiliary head runs after the main one, in another resolution.
    """
    return model.outputs in (activation.shape[0], activation.shape[-1])


def readings(model: WorkingCopy, activation: Activation, images: torch.Tensor) -> list[Places]:
    """The ways to read an activation; (heads,T,d), which attention gives, is no grid where there are T tokens."""
    shape = activation.shape
    if len(shape) == 2:
        grids = model.token_grids.get(shape[0])
        if grids is None:
            grids = model.token_grids[shape[0]] = _token_readings(model, activation, images)
        return [replace(each, channels=shape[1]) for each in grids]
    tokens = {each.shape[0] for each in model.activations if len(each.shape) == 2}
    found = arrangements(shape, (images.shape[2], images.shape[3]))
    return [places for places in found if places.form is not Form.GRID or places.rows not in tokens]


def _token_readings(model: WorkingCopy, activation: Activation, images: torch.Tensor) -> list[Places]:
    """The ways to read as many tokens as an activation has, one where the model tells; see ``token_arrangements``.

    Where some tokens have no place, or no convolution made a grid of them, as in NaFlex (a linear layer takes the
    patches), it is seen what pictures change in them before attention mixes them: most models put such tokens before
    the places, some after them.
    """
    (tokens, channels), size = activation.shape, (images.shape[2], images.shape[3])
    grids = {(each.shape[1], each.shape[2]) for each in model.activations if len(each.shape) == 3}
    readings = token_arrangements((tokens, channels), size, grids)
    made = bool(readings) and (readings[0].rows, readings[0].columns) in grids
    if not readings or (made and not any(each.prefix for each in readings)):
        return readings
    first = next(each.layer for each in model.activations if len(each.shape) == 2 and each.shape[0] == tokens)
    change = changes(model, images, first)
    agreeing: list[Places] = []
    for places in readings:
        agreeing += [places] if agree(change, places) else [each for each in otherwise(places) if agree(change, each)]
    if made and not agreeing:
        agreeing = [places for places in readings if agree(change, places, still=False)]
    counts = {each.shape[0] for each in model.activations if len(each.shape) == 2}
    return agreeing if made else likeliest(agreeing, size, counts)


def _doubt(found: Sequence[Places]) -> str:
    """That several grids of tokens are possible."""
    count = found[0].prefix + found[0].rows * found[0].columns + found[0].suffix
    grids = " or ".join(
        f"{each.rows} x {each.columns} after {each.prefix} others"
        + (f" and before {each.suffix}" if each.suffix else "")
        for each in found
    )
    return f"its {count} tokens may be {grids}"


def _of_usual_width(readings: Readings) -> Readings:
    """Without queries, keys, values and hidden layers of transformers, whose width is not that of most layers."""
    widths: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for _, places in _backwards(readings):  # of two widths equally common the later one counts
        if places.form is not Form.GRID:
            widths[places.rows, places.columns][places.channels] += 1
    usual = {grid: counter.most_common(1)[0][0] for grid, counter in widths.items()}

    def fitting(places: Places) -> bool:
        return places.form is Form.GRID or places.channels == usual[places.rows, places.columns]

    kept = {name: [places for places in found if fitting(places)] for name, found in readings.items()}
    return {name: found for name, found in kept.items() if found}


def _backwards(readings: Readings) -> Iterator[tuple[str, Places]]:
    for name in reversed(readings):
        yield from ((name, places) for places in readings[name])
