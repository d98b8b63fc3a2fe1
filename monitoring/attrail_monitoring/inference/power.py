"""How many images and how many retrains a wanted effect needs, and what can be seen with those at hand."""

from collections.abc import Callable
from functools import lru_cache

from scipy import stats
from scipy.optimize import brentq

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.prediction_bound import FEWEST

MOST = 10**7
KNOWN = 1024  # answers that are remembered: a non-central t is slow, and an audit asks for few different ones


def images_power(images: int, effect: float, alpha: float, sd: float = 1.0) -> float:
    """Chance that a one-sided paired t-test on ``images`` sees a mean shift of ``effect``: non-central t.

    ``effect`` in the units of ``sd``, the standard deviation of the per-image differences (1: effect in SDs).
    """
    _require(alpha=alpha)
    if images < 2 or sd <= 0:
        raise ConfigError(f"expected at least 2 images and an SD above 0, got {images} and {sd}")
    return _t_power(images - 1, effect / sd * images**0.5, alpha)


def images_needed(effect: float, alpha: float, power: float, sd: float = 1.0) -> int:
    """The fewest images with which ``images_power`` reaches ``power``; ConfigError beyond ten million."""
    _require(alpha=alpha, power=power)
    if effect <= 0:
        raise ConfigError(f"expected an effect above 0 to plan for, got {effect}")
    found = _fewest(lambda images: images_power(images, effect, alpha, sd) >= power, 2, MOST)
    if found is None:
        raise ConfigError(f"an effect of {effect / sd:g} SD needs more than {MOST} images: plan for a larger one")
    return found


@lru_cache(maxsize=KNOWN)
def detectable_effect(images: int, alpha: float, power: float, sd: float = 1.0) -> float:
    """The effect, in the units of ``sd``, that ``images`` images show with chance ``power``."""
    return _detectable("effect", lambda effect: images_power(images, effect, alpha), alpha, power) * sd


def retrains_power(retrains: int, shift: float, alpha: float) -> float:
    """Chance that a candidate ``shift`` retrain-SDs (of log distances) further out exceeds the floor's t-bound.

    The bound predicts one more retrain from K (Hahn & Meeker 1991), so the candidate's distance from their mean is a
    t with K - 1 degrees of freedom on the scale sqrt(1 + 1/K), its non-centrality the shift on that scale.
    """
    _require(alpha=alpha)
    if retrains < 2:
        raise ConfigError(f"expected at least 2 retrains, got {retrains}: one has no spread")
    return _t_power(retrains - 1, shift / (1 + 1 / retrains) ** 0.5, alpha)


def retrains_needed(shift: float, alpha: float, power: float) -> int:
    """The fewest retrains, four at least, that see ``shift`` retrain-SDs with chance ``power``.

    ConfigError where no number does: retrains make the bound certain, never the noise of one more training smaller.
    """
    _require(alpha=alpha, power=power)
    best = float(stats.norm.sf(stats.norm.isf(alpha) - shift))
    found = _fewest(lambda retrains: retrains_power(retrains, shift, alpha) >= power, FEWEST, MOST)
    if found is None:
        raise ConfigError(
            f"a shift of {shift:g} retrain SDs is seen with power {best:.2f} by any number of retrains, wanted is "
            f"{power:g}: plan for a larger shift or less power"
        )
    return found


@lru_cache(maxsize=KNOWN)
def detectable_shift(retrains: int, alpha: float, power: float) -> float:
    """The shift, in retrain SDs of log distances, that a floor of so many retrains shows with chance ``power``."""
    return _detectable("shift", lambda shift: retrains_power(retrains, shift, alpha), alpha, power)


@lru_cache(maxsize=KNOWN)
def detectable_excess(freedom: float, alpha: float, power: float) -> float:
    """The excess over a floor's mean, in its prediction spreads of ``freedom``, that exceeds its bound with ``power``.

    What exceeds a t-bound is a non-central t (``retrains_power``); floors whose spread others help to tell have more
    degrees of freedom than their models less one.
    """
    return _detectable("excess", lambda excess: _t_power(freedom, excess, alpha), alpha, power)


def _detectable(what: str, power_of: Callable[[float], float], alpha: float, power: float) -> float:
    """The size of a move that is seen with chance ``power``, by doubling and then Brent's method."""
    _require(alpha=alpha, power=power)
    if power <= alpha:
        raise ConfigError(f"power {power} must exceed alpha {alpha}: no {what} at all gives that much")
    largest = 1.0
    while power_of(largest) < power:
        largest *= 2
    return float(brentq(lambda size: power_of(size) - power, 0, largest, xtol=1e-12))


def _t_power(freedom: float, noncentrality: float, alpha: float) -> float:
    """Chance that a non-central t exceeds the central one's upper alpha quantile."""
    return float(stats.nct.sf(stats.t.isf(alpha, freedom), freedom, noncentrality))


def _fewest(enough: Callable[[int], bool], low: int, most: int) -> int | None:
    """The smallest number from ``low`` that is enough, by doubling and halving; None when ``most`` is not."""
    high = low
    while not enough(high):
        if high == most:
            return None
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _require(**shares: float) -> None:
    for name, value in shares.items():
        if not 0 < value < 1:
            raise ConfigError(f"expected {name} between 0 and 1, got {value}")
