"""Matched noise: random changes of a classifier's weights that change its answers as much as another version does."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import brentq

from attrail_explainers.digest import seed_of
from attrail_explainers.errors import ExplanationError, UnsupportedModelError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.redrawn import Weights, redrawn
from attrail_explainers.model.working_copy import WorkingCopy

DIMENSIONS = 2  # of a tensor that gets noise: kernels and matrices; biases and norms are few and far from Gaussian
FIRST = 0.05  # sigma that the search begins with: pruning, quantization and fine-tuning lie within a factor of ten
STEP = 4.0  # between the sigmas tried until the wanted divergence lies in between
SMALLEST, LARGEST = 1e-6, 16.0  # of sigma: a float32's own rounding, and weights that are noise alone
EXACT = 0.02  # of log sigma: the divergence grows with about its square, so it is met within 4 %
UNKNOWN = 50.0  # log ratio that stands for answers that are no numbers


@dataclass(frozen=True)
class WeightNoise:
    """Gaussian noise on every weight tensor of two dimensions or more, ``sigma`` times its own standard deviation.

    ``draw`` and ``seed`` say which noise: it depends on them and on the tensors' names alone.
    """

    draw: int
    seed: int
    sigma: float

    def __str__(self) -> str:
        return f"noise {self.draw}"


@dataclass(frozen=True)
class NoiseMatch:
    """A ``noise`` and what it does to the answers: mean ``divergence`` in nats and ``churn``, 0..1."""

    noise: WeightNoise
    divergence: float
    churn: float


def noised(classifier: Classifier, model: WorkingCopy, noise: WeightNoise) -> Classifier:
    """A classifier of its own with noise on its weights; ``model`` is the classifier's working copy.

    Raises UnsupportedModelError when it cannot be copied, or has no weights that noise could be put on.
    """

    def new(name: str, weight: torch.Tensor) -> torch.Tensor:
        generator = np.random.default_rng(seed_of("weight noise", noise.seed, noise.draw, name))
        drawn = torch.from_numpy(generator.standard_normal(tuple(weight.shape), dtype=np.float32)).to(weight.device)
        spread = weight.float().std(correction=0)
        return (weight.float() + noise.sigma * spread * drawn).to(weight.dtype)

    return redrawn(classifier, model, _tensors, new, f"with {noise}")


def noised_tensors(model: WorkingCopy) -> tuple[str, ...]:
    """The names of the tensors that noise is put on; UnsupportedModelError when there are none."""
    return tuple(_tensors(model, model.module))


def match_noise(
    classifier: Classifier,
    images: NDArray[np.float32],
    sample_ids: tuple[str, ...],
    divergence: float,
    draw: int,
    seed: int,
) -> NoiseMatch:
    """The noise that makes the answers to images (N,C,H,W) diverge by ``divergence`` nats from what they were.

    Its sigma is searched for by Brent's method; the match says what was reached, which is less where no noise moves
    the answers so far. ``sample_ids`` are the names of the N images. Raises what ``noised`` and ``Classifier.logits``
    raise.
    """
    before = classifier.logits(images, sample_ids)
    model = classifier.working_copy(images)
    tried: dict[float, NoiseMatch] = {}

    def attempt(sigma: float) -> NoiseMatch:
        if sigma not in tried:
            noise = WeightNoise(draw, seed, sigma)
            tried[sigma] = _measured(noised(classifier, model, noise), noise, before, images, sample_ids)
        return tried[sigma]

    def excess(log_sigma: float) -> float:
        found = attempt(math.exp(log_sigma)).divergence
        return UNKNOWN if math.isinf(found) else math.log(max(found, 1e-300) / divergence)

    if divergence <= 0:
        return attempt(0.0)
    low, high = _bracket(excess)
    if excess(low) < 0 < excess(high):
        brentq(excess, low, high, xtol=EXACT)
    return min(tried.values(), key=lambda each: abs(math.log(max(each.divergence, 1e-300) / divergence)))


def _bracket(excess: Callable[[float], float]) -> tuple[float, float]:
    """Logs of two sigmas that the wanted one lies between, or of the end of the range beyond which it lies."""
    log_sigma = math.log(FIRST)
    step = math.log(STEP) * (1 if excess(log_sigma) < 0 else -1)
    while math.log(SMALLEST) <= log_sigma + step <= math.log(LARGEST):
        ends = sorted((log_sigma, log_sigma + step))
        log_sigma += step
        if (excess(log_sigma) < 0) != (step > 0):
            return ends[0], ends[1]
    return log_sigma, log_sigma


def _measured(
    classifier: Classifier,
    noise: WeightNoise,
    before: NDArray[np.float32],
    images: NDArray[np.float32],
    sample_ids: tuple[str, ...],
) -> NoiseMatch:
    try:
        after = classifier.logits(images, sample_ids)
    except ExplanationError:  # so much noise that the answers are no numbers any more
        return NoiseMatch(noise, math.inf, 1.0)
    task = classifier.asked
    return NoiseMatch(noise, task.divergence(before, after), task.churn(before, after))


def _tensors(model: WorkingCopy, module: torch.nn.Module) -> Weights:
    found = {
        name: weight
        for name, weight in module.named_parameters()
        if weight.ndim >= DIMENSIONS and weight.is_floating_point()
    }
    if not found:
        raise UnsupportedModelError(
            f"model {model.label} has no weights that noise could be put on: its parameters hold no matrix or kernel "
            "of floating-point numbers, as after quantization; give retrains as a floor instead"
        )
    return found
