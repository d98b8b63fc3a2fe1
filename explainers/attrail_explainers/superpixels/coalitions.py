"""Coalitions: which superpixels stay in each perturbed copy of an image."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln


@dataclass(frozen=True)
class Coalitions:
    """Rows of segments that stay.

    ``present`` (M,S) bool, never all or none. ``weight`` (M,) is proportional to one over the probability with which
    a row was drawn, so that any expectation over subsets can be taken from the same rows. ``complete`` says that these
    are all the rows there are.
    """

    present: NDArray[np.bool_]
    weight: NDArray[np.float64]
    complete: bool = False

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Return the number of superpixels (M,) that stay in each row."""
        return np.asarray(self.present.sum(axis=1), dtype=np.int64)


def log_choose(count: int, sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    """Logarithm of the number of subsets of each size, exact enough at any count."""
    return np.asarray(gammaln(count + 1) - gammaln(sizes + 1) - gammaln(count - sizes + 1))


def size_distribution(segments: int) -> NDArray[np.float64]:
    """Probability of each coalition size 1..S-1: half uniform over sizes, half as fair coins would give.

    Uniform over sizes is leverage-score sampling for Shapley regression (Musco & Witter, ICLR 2025); fair coins are
    LIME's own design (Ribeiro et al., KDD 2016). The mixture serves both with importance weights of at most two.
    """
    sizes = np.arange(1, segments)
    coins = np.exp(log_choose(segments, sizes) - segments * np.log(2))
    mixture = 0.5 / len(sizes) + 0.5 * coins / coins.sum()
    return np.asarray(mixture / mixture.sum())


def draw_coalitions(segments: int, budget: int, generator: np.random.Generator) -> Coalitions:
    """At most ``budget`` coalitions of ``segments`` (S >= 2) superpixels.

    All of them when they fit the budget; otherwise pairs of a random subset and its complement, which cancels the
    odd part of the sampling error (Covert & Lee, AISTATS 2021). Sizes are drawn systematically, one from each of equal
    shares of their distribution, and in random order, so that any first part of them is a sample too.
    """
    if segments <= 20 and 2**segments - 2 <= budget:
        codes = np.arange(1, 2**segments - 1)
        present = (codes[:, None] >> np.arange(segments)) & 1 == 1
        return Coalitions(present, np.ones(len(present)), complete=True)
    probability = size_distribution(segments)
    count = max(1, budget // 2)
    places = (np.arange(count) + generator.random()) / count
    sizes = generator.permutation(1 + np.searchsorted(probability.cumsum()[:-1], places, side="right"))
    ranks = generator.random((len(sizes), segments)).argsort(axis=1)
    half = ranks < sizes[:, None]
    present = np.stack([half, ~half], axis=1).reshape(-1, segments)
    drawn = present.sum(axis=1)
    # The distribution over sizes is symmetric, so a subset and its complement are equally likely.
    log_weight = log_choose(segments, drawn) - np.log(probability[drawn - 1])
    return Coalitions(present, np.exp(log_weight - log_weight.max()))
