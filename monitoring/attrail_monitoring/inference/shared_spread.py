"""Spread that floors share: one of a few models alone tells little of its own, so they lend each other certainty."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

from attrail_monitoring.inference.scale import Scale

TINY = 1e-18  # variance below which all distances are the same


@dataclass(frozen=True)
class SharedSpread:
    """Variance that floors of one kind scatter about on their scale, worth ``freedom`` degrees of freedom."""

    variance: float
    freedom: float

    def with_own(self, variance: float, freedom: int) -> tuple[float, float]:
        """A floor's variance drawn towards the shared one, and its degrees of freedom (Smyth 2004, equation 3)."""
        together = self.freedom + freedom
        return (self.freedom * self.variance + freedom * variance) / together, together


@dataclass(frozen=True)
class PooledSpread:
    """Variances of log distances that other statistics of the same models have.

    Their mean is steadier than one of them, but the models are the same: it is worth no more degrees of freedom.
    """

    others: tuple[float, ...]

    def with_own(self, variance: float, freedom: int) -> tuple[float, float]:
        """The mean of a floor's variance and the others, and the floor's own degrees of freedom."""
        return float(np.mean([variance, *self.others])), float(freedom)


def shared_spread(floors: Sequence[Sequence[float]], scale: Scale = Scale.LOG) -> SharedSpread | None:
    """The spread shared by floors, each of K distances on a ``scale``; None with fewer than three of them.

    Empirical Bayes: sample variances are taken for scaled F draws about a common one, whose freedom is fitted to the
    moments of their logarithms (Smyth 2004, "Linear models and empirical Bayes methods", section 6.2). It never counts
    for more than all the other floors' distances together, as in limma.
    """
    if len(floors) < 3:
        return None
    freedom = len(floors[0]) - 1
    variances = [max(float(scale.of(each).var(ddof=1)), TINY) for each in floors]
    logs = np.log(variances) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, freedom / 2))
    most = float(freedom * (len(floors) - 1))
    prior = most if excess <= 0 else min(2 * _trigamma_inverse(excess), most)
    return SharedSpread(float(np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))), prior)


def _trigamma_inverse(value: float) -> float:
    """The positive x with trigamma(x) = value."""
    return float(brentq(lambda x: float(polygamma(1, x)) - value, 1e-8, 1e8))
