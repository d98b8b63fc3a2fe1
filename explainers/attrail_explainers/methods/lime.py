"""LIME: weights of a local linear surrogate over superpixels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from lime.lime_base import LimeBase
from numpy.typing import NDArray
from scipy.special import expit

from attrail_explainers.errors import ConfigError
from attrail_explainers.evaluations import Baseline, Evaluations, Perturbation
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.segmentation import Segmentation
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class Lime:
    """LIME on superpixels (Ribeiro et al., KDD 2016): the library's own ridge surrogate over shared evaluations.

    Explains the target's probability, as ``lime_image`` does, with its cosine kernel of width ``kernel_width``; every
    pixel of a superpixel carries the superpixel's weight. The rows are weighted so that they stand for lime's fair
    coins. The diagnostic ``surrogate_r2`` says how well the surrogate fits.
    """

    segments: int = 32
    compactness: float = 10.0
    baseline: Baseline = "blur"
    evaluations: int = 256
    kernel_width: float = 0.25

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.RANDOM})

    def __post_init__(self) -> None:
        self.perturbation()
        if not isinstance(self.kernel_width, int | float) or not self.kernel_width > 0:
            raise ConfigError(f"kernel_width must be a number above 0, not {self.kernel_width!r}")

    def perturbation(self) -> Perturbation:
        return Perturbation(Segmentation(self.segments, self.compactness), self.baseline, self.evaluations)

    def attribute(self, subject: Subject) -> Maps:
        perturbation = self.perturbation()
        values = np.full((len(subject), *subject.images.shape[2:]), np.nan, dtype=np.float32)
        undefined, fit = {}, np.full(len(subject), np.nan)
        for row in subject.rows():
            evaluations = subject.evaluations(row, perturbation)
            if evaluations.coalitions is None:
                undefined[row] = "fewer than two superpixels"
                continue
            weights, fit[row] = surrogate(evaluations, self.kernel_width)
            values[row] = weights[evaluations.segments]
        return Maps(values, undefined, {"surrogate_r2": fit})


def surrogate(evaluations: Evaluations, kernel_width: float) -> tuple[NDArray[np.float64], float]:
    """Weights (S,) of lime's ridge surrogate of the target's probability, and its R2."""
    coalitions = evaluations.coalitions
    if coalitions is None:
        raise ValueError("a surrogate needs at least two superpixels")
    count = coalitions.present.shape[1]
    design = np.concatenate([np.ones((1, count)), coalitions.present])  # lime's first row is the image itself
    probability = expit(np.append(evaluations.full, evaluations.log_odds))
    fair = coalitions.weight / coalitions.weight.mean()
    distances = 1 - np.sqrt(design.mean(axis=1))  # the cosine distance of 0/1 rows from the row of ones

    def kernel(distance: NDArray[np.float64]) -> NDArray[np.float64]:
        local = np.sqrt(np.exp(-((distance / kernel_width) ** 2)))
        return np.asarray(local * np.append(1.0, fair))

    base = LimeBase(kernel, random_state=0)  # nothing is drawn: ridge has a closed form
    _, pairs, fit, _ = base.explain_instance_with_data(
        design, probability[:, None], distances, label=0, num_features=count, feature_selection="none"
    )
    weights = np.empty(count)
    for segment, weight in pairs:
        weights[segment] = weight
    return weights, float(fit)


METHOD = Lime
