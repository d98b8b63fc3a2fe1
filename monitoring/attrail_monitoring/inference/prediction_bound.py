"""The t-prediction bound: what one more model exceeds with a given probability (Hahn & Meeker 1991, ch. 4)."""

from scipy import stats

FEWEST = 4  # models that a bound is told from


def prediction_bound(mean: float, spread: float, freedom: float, tail: float) -> float:
    """What one more value exceeds with probability ``tail``, mean + t spread.

    ``spread`` is that of a prediction, s sqrt(1 + 1/K) for K values with the standard deviation s, which is known with
    ``freedom`` degrees of freedom.
    """
    return float(mean + stats.t.isf(tail, freedom) * spread)
