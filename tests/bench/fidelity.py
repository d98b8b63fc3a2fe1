"""Converged references, and how near a map of a few hundred evaluations is to them."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import spearmanr

from attrail_explainers.methods.lime import surrogate
from attrail_explainers.methods.shap import regressed
from attrail_explainers.superpixels.coalitions import Coalitions
from attrail_explainers.superpixels.emulator import Emulator
from attrail_explainers.superpixels.evaluations import Evaluations

Array = NDArray[np.float64]


def agreement(first: Array, second: Array) -> float:
    """Spearman correlation."""
    return float(spearmanr(first.ravel(), second.ravel())[0])


def part(evaluations: Evaluations, start: int, stop: int) -> Evaluations:
    coalitions = evaluations.coalitions
    rows = slice(start, stop)
    return replace(
        evaluations,
        coalitions=Coalitions(coalitions.present[rows], coalitions.weight[rows]),
        log_odds=evaluations.log_odds[rows],
    )


def difference(first: Evaluations, second: Evaluations) -> Evaluations:
    return replace(
        first,
        log_odds=second.log_odds - first.log_odds,
        full=second.full - first.full,
        empty=second.empty - first.empty,
    )


def converged_shap(evaluations: Evaluations) -> Array:
    """Shapley values from many evaluations, without bias from the emulator.

    The emulator of one quarter plus the libraries' regression on what it leaves unexplained in the other three, for the
    first and for the last quarter, averaged.
    """
    count = len(evaluations.log_odds)
    quarter = count // 4
    found = []
    for few, rest in (
        (part(evaluations, 0, quarter), part(evaluations, quarter, count)),
        (part(evaluations, count - quarter, count), part(evaluations, 0, count - quarter)),
    ):
        emulator = Emulator(few.coalitions.present, few.log_odds, few.full, few.empty)
        unexplained = rest.log_odds - emulator.predict(rest.coalitions.present)
        found.append(emulator.shapley_values() + regressed(replace(rest, log_odds=unexplained, full=0.0, empty=0.0)))
    return np.mean(found, axis=0)


def converged_lime(evaluations: Evaluations) -> Array:
    """lime's own surrogate on many weighted evaluations."""
    coalitions = evaluations.coalitions
    probability = expit(evaluations.log_odds)
    return surrogate(coalitions.present, probability, expit(evaluations.full), coalitions.weight, 0.25)[0]


def relative_error(found: Array, reference: Array) -> float:
    """Root mean square error as a share of the reference's spread."""
    return float(np.sqrt(((found - reference) ** 2).mean()) / reference.std())


def mean_over(images: int, measured: Callable[[int], float]) -> float:
    return float(np.mean([measured(row) for row in range(images)]))
