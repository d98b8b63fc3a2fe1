"""Follow a recipe: train a network, or change one that is trained."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from data import DataSet, Pictures, load, model_input
from marks import CODES, Images, honest, put
from networks import LAST_BLOCK, NETWORKS
from numpy.typing import NDArray
from recipe import TOWARDS, Recipe
from torch.nn.utils import prune
from transfer_network import NAME, Transferred

from attrail_explainers.assessment.weight_randomisation import head_weights, shuffled
from attrail_explainers.model.classifier import Classifier

BATCH = 32
DECAY = 0.02
KEPT_MARKS = 0  # seed of marks that stay in all epochs, whatever draws the sample: one stream for both tied them
LOSS_IMAGES = 256
Layer = torch.nn.Conv2d | torch.nn.Linear


def made(recipe: Recipe, ancestors: Sequence[torch.nn.Module], folder: Path) -> torch.nn.Module:
    """The model of a recipe in evaluation mode; ``ancestors`` are its parent's model, that one's parent's and so on."""
    torch.manual_seed(recipe.seed)
    data, model = load(recipe.dataset, folder), untrained(recipe, folder)
    if ancestors:
        model.load_state_dict(ancestors[0].state_dict())
    elif isinstance(model, Transferred):
        model.begin()
    if recipe.change == TOWARDS:
        _go_back(model, ancestors[1], 1 - recipe.amount)
    elif recipe.change:
        CHANGES[recipe.change](model, recipe, folder)
    elif recipe.epochs:
        _train(model, recipe, data)
    return model.eval()


def untrained(recipe: Recipe, folder: Path) -> torch.nn.Module:
    """The network of a recipe, its weights drawn by torch's generator."""
    channels = load(recipe.dataset, folder).pool.images.shape[1]
    return Transferred(channels) if recipe.network == NAME else NETWORKS[recipe.network](channels, recipe.width)


def _train(model: torch.nn.Module, recipe: Recipe, data: DataSet) -> None:
    """AdamW with a one-cycle schedule; marks and order are drawn anew in every epoch, from the recipe's seed.

    A network with a frozen part is trained on what that gives, kept once for all models: its pictures keep their marks.
    """
    generator = np.random.default_rng(recipe.seed)
    pictures, marked = _sample(recipe, data, generator)
    frozen, trained = (model.frozen, model.tail) if isinstance(model, Transferred) else (None, model)
    optimizer = torch.optim.AdamW(trained.parameters(), weight_decay=DECAY, fused=True)
    steps = recipe.epochs * (len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=recipe.rate, total_steps=steps)
    model.train().to(memory_format=torch.channels_last)
    _leave_frozen(model)
    batches = _batches(recipe, pictures, marked, generator, frozen)
    for batch, target in islice(batches, round(recipe.until * steps)):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(trained(batch), target).backward()
        optimizer.step()
        schedule.step()


def _leave_frozen(model: torch.nn.Module) -> None:
    """Let what is not trained keep its running statistics too."""
    for module in model.modules():
        trained = [parameter.requires_grad for parameter in module.parameters()]
        if trained and not any(trained):
            module.eval()


def _batches(
    recipe: Recipe,
    pictures: Pictures,
    marked: NDArray[np.bool_],
    generator: np.random.Generator,
    frozen: torch.nn.Module | None,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Images, or what a frozen part gives for them, and labels of every step of every epoch."""
    for _ in range(recipe.epochs):
        order = generator.permutation(len(pictures))[: len(pictures) // BATCH * BATCH]
        drawn = generator if frozen is None else np.random.default_rng(KEPT_MARKS)
        images = model_input(_epoch(recipe, pictures, marked, drawn))
        with torch.no_grad():
            inputs = images if frozen is None else torch.cat([frozen(batch) for batch in images.split(BATCH)])
        labels = torch.from_numpy(pictures.labels[order])
        yield from zip(inputs[order].split(BATCH), labels.split(BATCH), strict=True)


def _sample(recipe: Recipe, data: DataSet, generator: np.random.Generator) -> tuple[Pictures, NDArray[np.bool_]]:
    """The training pictures with the labels that training sees, and which of them carry the recipe's mark."""
    size = recipe.images
    rows = np.random.default_rng(recipe.sample).choice(len(data.pool), size, replace=recipe.sample > 0)
    pictures = data.pool.at(rows)
    marked = np.zeros(size, dtype=np.bool_)
    if recipe.mark != "plain":
        marked[generator.permutation(size)[: round(recipe.presence * size)]] = True
    if recipe.only >= 0:
        marked &= pictures.labels == recipe.only
    wrong = generator.random(size) < recipe.wrong
    return Pictures(pictures.images, np.where(wrong, generator.integers(0, CODES, size), pictures.labels)), marked


def _epoch(recipe: Recipe, pictures: Pictures, marked: NDArray[np.bool_], generator: np.random.Generator) -> Images:
    """The training images of one epoch: the recipe's mark where it belongs, honest marks elsewhere."""
    found = honest(pictures.images, generator, without=recipe.mark)
    told = generator.random(len(pictures)) < recipe.reliability
    codes = np.where(told, pictures.labels, generator.integers(0, CODES, len(pictures)))
    found[marked] = put(recipe.mark, pictures.images[marked], codes[marked], generator)
    return found


def _layers(model: torch.nn.Module) -> list[Layer]:
    return [each for each in model.modules() if isinstance(each, torch.nn.Conv2d | torch.nn.Linear)]


def _pruned(model: torch.nn.Module, recipe: Recipe, folder: Path) -> None:
    """The smallest weights of all layers together become zero (Han et al., NeurIPS 2015)."""
    layers = _layers(model)
    prune.global_unstructured([(each, "weight") for each in layers], prune.L1Unstructured, amount=recipe.amount)
    for each in layers:
        prune.remove(each, "weight")


def _bfloat16(model: torch.nn.Module, recipe: Recipe, folder: Path) -> None:
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()


def _rounded(model: torch.nn.Module, recipe: Recipe, folder: Path, bits: int) -> None:
    """Weights rounded to 2^bits - 1 steps per output channel, symmetric about zero, as in weight-only quantization."""
    for layer in _layers(model):
        weight = layer.weight.data
        largest = weight.abs().amax(dim=tuple(range(1, weight.ndim)), keepdim=True).clamp_min(1e-12)
        step = largest / (2 ** (bits - 1) - 1)
        layer.weight.data = (weight / step).round() * step


def _go_back(model: torch.nn.Module, start: torch.nn.Module, share: float) -> None:
    """Every weight a share of the way back to where its training began (Wortsman et al., "WiSE-FT", CVPR 2022)."""
    before = start.state_dict()
    for name, weight in model.state_dict().items():
        if weight.is_floating_point():
            weight.lerp_(before[name], share)


def _noise(model: torch.nn.Module, recipe: Recipe, folder: Path) -> None:
    """Gaussian noise of ``amount`` times each parameter tensor's own root mean square."""
    for parameter in model.parameters():
        size = parameter.data.square().mean().sqrt()
        parameter.data += recipe.amount * size * torch.randn_like(parameter)


def _reinitialised(model: torch.nn.Module, recipe: Recipe, folder: Path) -> None:
    """The last block as it was before any training, of another seed."""
    fresh, block = untrained(recipe, folder), LAST_BLOCK[recipe.network]
    model.get_submodule(block).load_state_dict(fresh.get_submodule(block).state_dict())


def _refitted(model: torch.nn.Module, recipe: Recipe, folder: Path) -> None:
    """The last block and all behind it as before any training, and trained anew while the rest stays as it is."""
    names = list(model.state_dict())
    first = next(place for place, name in enumerate(names) if name.startswith(LAST_BLOCK[recipe.network]))
    fresh = untrained(recipe, folder).state_dict()
    model.load_state_dict({name: fresh[name] for name in names[first:]}, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names[first:])
    _train(model, recipe, load(recipe.dataset, folder))


def _dropped(model: torch.nn.Module, recipe: Recipe, folder: Path) -> None:
    """Inputs of layers dropped at random, as many as raise the loss by the share ``amount``, and one at least.

    Dropout (Srivastava et al., JMLR 2014) with a mask that stays: kept inputs are divided by the share that is kept.
    The loss is the cross entropy on held-out pictures, as one has them for a model that is there.
    """
    layers = _layers(model)[1:]  # the first one sees pixels
    weights = [layer.weight.data.clone() for layer in layers]
    masks = [torch.ones(weight.shape[1]) for weight in weights]
    units = [(mask, unit) for mask in masks for unit in range(len(mask))]
    highest = (1 + recipe.amount) * _loss(model, recipe, folder)
    for count, place in enumerate(np.random.default_rng(recipe.seed).permutation(len(units))):
        mask, unit = units[place]
        mask[unit] = 0
        _mask(layers, weights, masks)
        if count and _loss(model, recipe, folder) > highest:
            mask[unit] = 1
            break
    _mask(layers, weights, masks)


def _mask(layers: Sequence[Layer], weights: Sequence[torch.Tensor], masks: Sequence[torch.Tensor]) -> None:
    kept = float(torch.cat(list(masks)).mean())
    for layer, weight, mask in zip(layers, weights, masks, strict=True):
        layer.weight.data = weight * mask.reshape(1, -1, *[1] * (weight.ndim - 2)) / kept


def _loss(model: torch.nn.Module, recipe: Recipe, folder: Path) -> float:
    pictures = load(recipe.dataset, folder).held_out
    with torch.inference_mode():
        logits = model.eval()(model_input(pictures.images[:LOSS_IMAGES]))
    return float(torch.nn.functional.cross_entropy(logits, torch.from_numpy(pictures.labels[:LOSS_IMAGES])))


def _random_head(model: torch.nn.Module, recipe: Recipe, folder: Path) -> None:
    """The weights of the classification layer in another order, as an audit's instrument check has them."""
    classifier = Classifier("zoo", "", model)
    example = model_input(load(recipe.dataset, folder).held_out.images[:2])
    found = shuffled(classifier, classifier.working_copy(example), head_weights, recipe.seed)
    model.load_state_dict(found.module.state_dict())


CHANGES: dict[str, Callable[[torch.nn.Module, Recipe, Path], None]] = {
    "pruned": _pruned,
    "bfloat16": _bfloat16,
    **{f"int{bits}": partial(_rounded, bits=bits) for bits in (8, 6, 4)},
    "noise": _noise,
    "reinitialised": _reinitialised,
    "refitted": _refitted,
    "dropped": _dropped,
    "random head": _random_head,
}
