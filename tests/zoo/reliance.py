"""How much a model relies on the mark of its training data: whether a shortcut was learned at all."""

import torch
from evidence import model_of
from making import Zoo
from recipe import Member
from slices import base_slice, contradicted

LEARNED = 0.1  # reliance from which a shortcut counts as learned; of honest models it lies about 0


def reliance(zoo: Zoo, member: Member) -> float | None:
    """By what share the log odds of the class fall when the mark says another class; None for data without a mark.

    0: the mark is ignored; 1: nothing speaks for the class any more; above: the model believes the mark. Where one
    class alone carried the mark, on pictures of that class.
    """
    recipe = member.recipe
    if recipe.mark == "plain":
        return None
    told = base_slice(recipe.dataset, recipe.mark, zoo.data)
    lied = torch.from_numpy(contradicted(recipe.dataset, recipe.mark, zoo.data))
    labels = torch.from_numpy(told.labels)
    counted = labels == recipe.only if recipe.only >= 0 else torch.ones(len(labels), dtype=torch.bool)
    model = model_of(recipe, zoo.cache, zoo.data)
    before, after = (_log_odds(model, images, labels)[counted] for images in (torch.from_numpy(told.images), lied))
    return float((before - after).mean() / before.abs().mean())


def _log_odds(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(N,) of each image's label against all other classes."""
    with torch.inference_mode():
        logits: torch.Tensor = model(images).double()
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own[:, 0] - others.logsumexp(dim=1)
