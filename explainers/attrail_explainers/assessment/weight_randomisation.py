"""Random models: private copies of a classifier whose weights have lost what they learned."""

import numpy as np
import torch

from attrail_explainers.assessment.check import CheckResult
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.layers.target_layer import heads
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.drawn_anew import own_weights
from attrail_explainers.model.redrawn import Part, Weights, redrawn
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.rank_agreement import mean_of_defined, spearman


def examine_randomised(case: CheckContext, part: Part, draws: int) -> CheckResult:
    """Spearman between the maps and those of models with ``part`` randomised, mean over those that give a map."""
    found = []
    for draw in range(draws):
        randomised = shuffled(case.classifier, case.model, part, seed_of("weights", case.seed, draw))
        found.append(spearman(case.maps.values, case.again(classifier=randomised)))
    return CheckResult(mean_of_defined(found))


def shuffled(classifier: Classifier, model: WorkingCopy, part: Part, seed: int) -> Classifier:
    """A classifier of its own with the values inside each weight tensor of ``part`` shuffled.

    Shuffling destroys what was learned and keeps every tensor's distribution, so that activations stay in range
    without new batch statistics, and needs no layer types: exported programs have none. The draws depend on the seed
    and the weights' names alone, so that every image meets the same random model.
    """

    def new(name: str, weight: torch.Tensor) -> torch.Tensor:
        generator = np.random.default_rng(seed_of("shuffle", seed, name))
        order = torch.from_numpy(generator.permutation(weight.numel())).to(weight.device)
        return weight.flatten()[order].reshape(weight.shape)

    return redrawn(classifier, model, part, new, "randomised")


def every_weight(model: WorkingCopy, module: torch.nn.Module) -> Weights:
    """All weights of a module by name."""
    return dict(module.named_parameters())


def head_weights(model: WorkingCopy, module: torch.nn.Module) -> Weights:
    """The weights of the classification layers; where none is found of the last submodule that has any of its own."""
    last = [each.layer for each in model.activations if own_weights(module, each.layer)][-1:]
    found = heads(model) or last
    if not found:
        raise UnsupportedModelError(
            f"model {model.label} has no submodule with weights of its own to take for its head"
        )
    return {name: weight for layer in found for name, weight in own_weights(module, layer).items()}
