"""LIME: weights of a local linear surrogate over superpixels."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
from lime.lime_base import LimeBase
from numpy.typing import NDArray

from attrail_explainers.explainer import Need, Trait
from attrail_explainers.parameters import require_positive
from attrail_explainers.runtime.blas import one_thread
from attrail_explainers.superpixels.evaluations import Evaluations
from attrail_explainers.superpixels.shared_method import SuperpixelMethod, Values

ROWS = 4096  # coalitions the emulator answers: more change no weight by as much as its noise


@dataclass(frozen=True)
class Lime(SuperpixelMethod):
    """LIME on superpixels (Ribeiro et al., KDD 2016): the library's own ridge surrogate.

    Explains the target's probability, as ``lime_image`` does, with its cosine kernel of width ``kernel_width``; every
    pixel of a superpixel carries the superpixel's weight. The surrogate is fitted to the emulator's answers for fair
    coins, as lime draws them, or to the evaluated coalitions, weighted so that they stand for fair coins. The
    diagnostic ``surrogate_r2`` says how well the surrogate fits.
    """

    kernel_width: float = 0.25

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.RANDOM})

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("kernel_width", self.kernel_width)

    def values(self, evaluations: Evaluations) -> tuple[Values | str, dict[str, float]]:
        coalitions, full = evaluations.coalitions, evaluations.full
        if coalitions is None:
            return "fewer than two superpixels", {}
        if self.emulated(evaluations):
            present = fair_coins(coalitions.present.shape[1])
            log_odds, drawn = evaluations.emulator.predict(present), np.ones(len(present))
        else:
            present, log_odds, drawn = coalitions.present, evaluations.log_odds, coalitions.weight
        answers, whole = (evaluations.response(np.asarray(each)) for each in (log_odds, full))
        weights, fit = surrogate(present, answers, float(whole), drawn, self.kernel_width)
        return weights, {"surrogate_r2": fit}


@lru_cache(maxsize=64)
def fair_coins(count: int) -> NDArray[np.bool_]:
    """(ROWS,S) coalitions as fair coins give them, in complementary pairs: the same for every image and version."""
    half = np.random.default_rng(count).random((ROWS // 2, count)) < 0.5
    return np.stack([half, ~half], axis=1).reshape(-1, count)


@one_thread()
def surrogate(
    present: NDArray[np.bool_], probability: Values, full: float, drawn: Values, kernel_width: float
) -> tuple[Values, float]:
    """Weights (S,) of lime's ridge surrogate of the target's probability (M,) for coalitions (M,S), and its R2.

    ``full`` is the probability for the image itself, lime's first row; ``drawn`` (M,) weighs each coalition by how
    much rarer it was drawn than fair coins would have.
    """
    count = present.shape[1]
    design = np.concatenate([np.ones((1, count)), present])
    distances = 1 - np.sqrt(design.mean(axis=1))  # the cosine distance of 0/1 rows from the row of ones
    fair = np.append(1.0, drawn / drawn.mean())

    def kernel(distance: Values) -> Values:
        return np.asarray(np.sqrt(np.exp(-((distance / kernel_width) ** 2))) * fair)

    base = LimeBase(kernel, random_state=0)  # nothing is drawn: ridge has a closed form
    _, pairs, fit, _ = base.explain_instance_with_data(
        design, np.append(full, probability)[:, None], distances, label=0, num_features=count, feature_selection="none"
    )
    weights = np.empty(count)
    for segment, weight in pairs:
        weights[segment] = weight
    return weights, float(fit)


METHOD = Lime
