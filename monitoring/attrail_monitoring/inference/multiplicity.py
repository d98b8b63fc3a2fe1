"""Many hypotheses at once: Holm for few, Benjamini-Hochberg and e-BH for many."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammainc

from attrail_explainers.errors import ConfigError

Array = NDArray[np.float64]


def holm(p_values: ArrayLike) -> Array:
    """Adjusted p-values (M,) that hold the chance of any false rejection, whatever the dependence (Holm 1979).

    Reject where the adjusted value is at most alpha. Never larger than Bonferroni's.
    """
    found = _probabilities(p_values)
    order = np.argsort(found, kind="stable")
    stepped = np.maximum.accumulate(found[order] * np.arange(len(found), 0, -1))
    return _restored(stepped, order)


def holm_levels(p_values: ArrayLike, alpha: float) -> Array:
    """The level (M,) that Holm's method holds each p-value against: reject where the p-value is at most its level.

    Each rejection leaves more to the others, so the levels grow from ``alpha`` / M.
    """
    found = _probabilities(p_values)
    order = np.argsort(found, kind="stable")
    rejected = int((holm(found) <= alpha).sum())
    steps = alpha / (len(found) - np.minimum(np.arange(len(found)), min(rejected, len(found) - 1)))
    return _restored(steps, order)


def benjamini_hochberg(p_values: ArrayLike) -> Array:
    """Adjusted p-values (M,) that hold the false discovery rate (Benjamini & Hochberg 1995).

    For independent or positively dependent p-values: conformal p-values are (Bates et al. 2023, theorem 2).
    """
    return _step_up(_probabilities(p_values))


def e_benjamini_hochberg(e_values: ArrayLike) -> Array:
    """Adjusted values (M,) of e-BH: the false discovery rate under any dependence (Wang & Ramdas 2022).

    Reject where the adjusted value is at most the wanted rate: the k largest e-values with k e_(k) >= M / rate.
    """
    found = np.atleast_1d(np.asarray(e_values, dtype=np.float64))
    if not (found >= 0).all():
        raise ConfigError(f"expected e-values of 0 or more, got {found.min() if len(found) else found}")
    with np.errstate(divide="ignore", over="ignore"):
        return _step_up(1 / found)


def e_values_of(p_values: ArrayLike) -> Array:
    """An e-value from each p-value, by the parameter-free calibrator (Vovk & Wang 2021, equation 2).

    The mean of k p^(k-1) over k in 0..1, which is (1 - p + p ln p) / (p ln(p)^2): infinite at 0, one half at 1. Written
    with the incomplete gamma function, which keeps its digits where the numerator cancels.
    """
    found = _probabilities(p_values)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        logs = -np.log(found)
        e_values = gammainc(2, logs) / found / logs**2
    return np.asarray(np.select([found == 0, logs < 1e-9], [np.inf, 0.5], e_values))


def _step_up(values: Array) -> Array:
    """The smallest rate at which each is among the k smallest with value <= k rate / M, for some k."""
    order = np.argsort(values, kind="stable")
    steps = values[order] * len(values) / np.arange(1, len(values) + 1)
    return _restored(np.minimum.accumulate(steps[::-1])[::-1], order)


def _restored(sorted_values: Array, order: NDArray[np.intp]) -> Array:
    """Back in the order in which they came, at most 1."""
    found = np.empty(len(order))
    found[order] = sorted_values.clip(max=1)
    return found


def _probabilities(p_values: ArrayLike) -> Array:
    found = np.atleast_1d(np.asarray(p_values, dtype=np.float64))
    if not ((found >= 0) & (found <= 1)).all():
        raise ConfigError(f"expected p-values in 0..1, got {found[~((found >= 0) & (found <= 1))][0]}")
    return found
