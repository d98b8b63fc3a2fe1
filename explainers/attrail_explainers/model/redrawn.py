"""A classifier of its own whose weights were drawn anew."""

from collections.abc import Callable, Mapping

import torch

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.drawn_anew import New, draw_anew
from attrail_explainers.model.private_copy import arrange, deep_copy
from attrail_explainers.model.working_copy import WorkingCopy

Weights = Mapping[str, torch.nn.Parameter]
Part = Callable[[WorkingCopy, torch.nn.Module], Weights]


def redrawn(classifier: Classifier, model: WorkingCopy, part: Part, new: New, how: str) -> Classifier:
    """A copy of a classifier in which each weight of ``part`` is ``new(name, weight)``; ``how`` goes into its label.

    ``model`` is the classifier's working copy. UnsupportedModelError when the model cannot be copied.
    """
    with model.hooks({}):  # sole use: a copy must not take along the hooks of another thread
        module = _copied(classifier.label, model.module)
    draw_anew(module, part(model, module), new)
    arrange(module)
    # Given as its own graph the copy is taken as it is; an exported program could not be copied once more.
    return Classifier(
        classifier.name,
        f"{classifier.version} {how}",
        module,
        graph=module,
        target_layer=classifier.target_layer,
        batch_size=classifier.batch_size,
        program_digest=classifier.program_digest,
        task=classifier.task,
        takes=classifier.takes,
        pixels=classifier.pixels,
    )


def _copied(label: str, module: torch.nn.Module) -> torch.nn.Module:
    try:
        return deep_copy(module)
    except (RuntimeError, TypeError) as error:
        raise UnsupportedModelError(f"model {label} cannot be copied to draw its weights anew: {error}") from error
