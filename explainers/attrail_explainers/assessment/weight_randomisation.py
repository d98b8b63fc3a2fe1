"""Random models: private copies of a classifier whose weights have lost what they learned."""

from collections.abc import Callable, Mapping

import numpy as np
import torch

from attrail_explainers.assessment.check import CheckResult
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.layers.target_layer import heads
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.drawn_anew import draw_anew, own_weights
from attrail_explainers.model.private_copy import arrange, deep_copy
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.rank_agreement import mean_of_defined, spearman

Weights = Mapping[str, torch.nn.Parameter]


def examine_randomised(
    case: CheckContext, part: Callable[[WorkingCopy, torch.nn.Module], Weights], draws: int
) -> CheckResult:
    """Spearman between the maps and those of models with ``part`` randomised, mean over those that give a map."""
    found = []
    for draw in range(draws):
        randomised = shuffled(case.classifier, case.model, part, seed_of("weights", case.seed, draw))
        found.append(spearman(case.maps.values, case.again(classifier=randomised)))
    return CheckResult(mean_of_defined(found))


def shuffled(
    classifier: Classifier, model: WorkingCopy, part: Callable[[WorkingCopy, torch.nn.Module], Weights], seed: int
) -> Classifier:
    """A classifier of its own with the values inside each weight tensor of ``part`` shuffled.

    Shuffling destroys what was learned and keeps every tensor's distribution, so that activations stay in range
    without new batch statistics, and needs no layer types: exported programs have none. The draws depend on the seed
    and the weights' names alone, so that every image meets the same random model.
    """
    with model.hooks({}):  # sole use: a copy must not take along the hooks of another thread
        module = _copied(classifier.label, model.module)

    def new(name: str, weight: torch.Tensor) -> torch.Tensor:
        generator = np.random.default_rng(seed_of("shuffle", seed, name))
        order = torch.from_numpy(generator.permutation(weight.numel())).to(weight.device)
        return weight.flatten()[order].reshape(weight.shape)

    draw_anew(module, part(model, module), new)
    arrange(module)
    # Given as its own graph the copy is taken as it is; an exported program could not be copied once more.
    return Classifier(
        classifier.name,
        f"{classifier.version} randomised",
        module,
        graph=module,
        target_layer=classifier.target_layer,
        batch_size=classifier.batch_size,
        program_digest=classifier.program_digest,
    )


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


def _copied(label: str, module: torch.nn.Module) -> torch.nn.Module:
    try:
        return deep_copy(module)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedModelError(f"model {label} cannot be copied to randomise its weights: {error}") from error
