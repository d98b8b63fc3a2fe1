"""DeepLIFT: differences from a baseline, followed back through every operation."""

from collections import deque
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional

from attrail_explainers.baselines import BASELINES, Baseline, baselines_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.gradients.backward_rules import Rule, Rules, gradients_at, linearised, secant, slope_between
from attrail_explainers.gradients.gradients import completeness_residual, differentiable, maps_of, plain
from attrail_explainers.parameters import require_choice
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class DeepLift:
    """DeepLIFT's rescale rule (Shrikumar et al., ICML 2017) in Ancona et al.'s gradient form (ICLR 2018).

    Each operation's gradient gives way to its mean between the ``baseline`` and the image: change out by change in for
    an activation, the gradient halfway for a product of two signals (gates, attention); normalisations are taken apart
    into these. So a map, summed over channels, sums to f(image) - f(baseline) up to rounding. The diagnostic
    ``completeness_residual`` grows where a model holds nonlinear operations without a rule, which keep their gradient
    (a maximum over channels or tokens).
    """

    baseline: Baseline = "blur"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.GRADIENTS})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def __post_init__(self) -> None:
        require_choice("baseline", self.baseline, BASELINES)

    def attribute(self, subject: Subject) -> Maps:
        model, rules = subject.model, RescaleRules(subject.model.label)
        forward = differentiable(model, subject.target)
        images = subject.images.detach().clone().requires_grad_()
        baselines = baselines_of(subject.images, self.baseline).requires_grad_()
        with rules:
            with saved_tensors_hooks(_forget, _forget):  # no one goes back through this run
                empty = forward(baselines)
            rules.recording = False
            full = forward(images)
        (multipliers,) = torch.autograd.grad(full.sum(), images)
        values = (multipliers * (images - baselines)).detach().sum(dim=1)
        return maps_of(values, completeness_residual(values, plain(full), plain(empty)))


class RescaleRules(Rules):
    """First the baselines are run and what comes into each operation is kept; then the images are, and meet it again.

    Two runs of one shape, not one of images beside baselines: in that one, a model that puts tokens or heads before
    images would mix them up, and a model exported for single images could not be run at all.
    """

    def __init__(self, label: str) -> None:
        super().__init__(
            {"max_pool2d": self.max_pool, "softmax": self.softmax}, elementwise=self.elementwise, product=self.product
        )
        self.label, self.recording = label, True
        self._kept: deque[tuple[torch.Tensor, ...]] = deque()

    def elementwise(self, function: Rule, inputs: torch.Tensor) -> torch.Tensor:
        """Return what the function gives; its slope is taken between baseline and image."""
        references = self._references(inputs)
        return function(inputs) if references is None else secant(function, inputs, *references)

    def product(self, function: Rule, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        """The mean of both orders in which the factors can change: their Shapley values, as in shap's DeepExplainer."""
        references = self._references(left, right)
        if references is None:
            return function(left, right)
        middle = tuple((each.detach() + other) / 2 for each, other in zip((left, right), references, strict=True))
        with torch.no_grad():
            outputs = function(left, right)
        return linearised(outputs, lambda gradient: gradients_at(function, middle, gradient), left, right)

    def max_pool(self, function: Rule, inputs: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """The change of a maximum is due to the place where the larger of the two maxima is, as in shap."""
        references = self._references(inputs)
        if references is None:
            return function(inputs, *args, **kwargs)
        outputs, places = functional.max_pool2d_with_indices(inputs.detach(), *args, **kwargs)
        before, other_places = functional.max_pool2d_with_indices(references[0], *args, **kwargs)
        places = torch.where(outputs >= before, places, other_places).flatten(2)
        there, there_before = (
            each.flatten(2).gather(2, places).reshape(outputs.shape) for each in (inputs, *references)
        )
        change = there.detach() - there_before
        slope = torch.where(change == 0, 1, (outputs - before) / change)
        return linearised(outputs, lambda gradient: (gradient * slope,), there)

    def softmax(self, function: Rule, inputs: torch.Tensor, dim: int, *args: Any, **kwargs: Any) -> torch.Tensor:
        """Softmax's own gradient, in which the logarithmic mean of the two outputs stands for the output.

        For each output y the change is m (change of log y), m being that mean, and log y = x - log sum exp x. That all
        changes sum to 0 settles the share of each input x in the sum: m / sum of m.
        """
        references = self._references(inputs)
        if references is None:
            return function(inputs, dim, *args, **kwargs)
        with torch.no_grad():
            outputs = function(inputs, dim, *args, **kwargs)
            mean = slope_between(torch.exp, *(each.log_softmax(dim) for each in (inputs, *references)))
        share = mean / mean.sum(dim=dim, keepdim=True)
        return linearised(
            outputs, lambda gradient: (mean * (gradient - (gradient * share).sum(dim=dim, keepdim=True)),), inputs
        )

    def _references(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...] | None:
        """What came in for the baselines; None while they are run."""
        if self.recording:
            self._kept.append(tuple(each.detach().clone() for each in inputs))
            return None
        references = self._kept.popleft() if self._kept else ()
        if [each.shape for each in references] != [each.shape for each in inputs]:
            raise UnsupportedModelError(
                f"model {self.label} runs other operations for an image than for its baseline, which deeplift cannot "
                "follow: use integrated_gradients"
            )
        return references


def _forget(tensor: torch.Tensor) -> Any:
    """Keeps nothing of a tensor."""
    return None


METHOD = DeepLift
