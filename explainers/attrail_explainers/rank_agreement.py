"""Rank agreement of maps."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

Values = NDArray[np.float32] | NDArray[np.float64]


def spearman(first: Values, second: Values) -> NDArray[np.float64]:
    """Spearman's rank correlation (N,), -1..1, of each pair of maps (N,h,w); NaN where one of them is undefined.

    Two equal maps agree (1) even when constant; a constant map and another one do not (0).
    """
    left, right = _centred_ranks(first), _centred_ranks(second)
    squares = (left**2).sum(axis=1) * (right**2).sum(axis=1)
    products = (left * right).sum(axis=1)
    found = np.divide(products, np.sqrt(squares), out=np.zeros_like(products), where=squares > 0)
    found[(left == right).all(axis=1)] = 1.0
    found[np.isnan(squares)] = np.nan
    return np.asarray(found.clip(-1, 1))


def _centred_ranks(maps: Values) -> NDArray[np.float64]:
    ranks = rankdata(maps.reshape(len(maps), -1), axis=1)
    return np.asarray(ranks - ranks.mean(axis=1, keepdims=True))


def mean_of_defined(draws: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Mean (N,) of several draws (N,) over those that are defined; NaN where none is."""
    stacked = np.stack(draws)
    defined = np.isfinite(stacked)
    counts, sums = defined.sum(axis=0), np.where(defined, stacked, 0.0).sum(axis=0)
    return np.asarray(np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0))
