"""The noise floor: how far the maps move when nothing but chance in training changes."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

SMALLEST = 1e-9
LARGEST_LOG = 700.0  # keeps the bound finite at any level
FEWEST = 4


@dataclass(frozen=True)
class NoiseFloor:
    """Distances of K reference retrains from the reference on the same images, one per retrain.

    The retrain is the statistical unit: more images never replace more retrains.
    """

    distances: tuple[float, ...] = ()
    models: tuple[str, ...] = ()

    @property
    def tier(self) -> str:
        """A: 19 or more retrains; B: 4 to 18; 0: too few for a bound."""
        count = len(self.distances)
        return "A" if count >= 19 else "B" if count >= FEWEST else "0"

    def bound(self, alpha: float) -> float | None:
        """What one more retrain exceeds with probability alpha, None with fewer than four retrains.

        t-prediction bound on log distances, exp(m + t s sqrt(1 + 1/K)) (Hahn & Meeker 1991, ch. 4).
        """
        if self.tier == "0":
            return None
        mean, spread, freedom = self._log_moments()
        return float(np.exp(min(mean + stats.t.isf(alpha, freedom) * spread, LARGEST_LOG)))

    def p_value(self, value: float) -> float | None:
        """Probability that one more retrain lands at ``value`` or beyond; the inverse of ``bound``."""
        if self.tier == "0":
            return None
        mean, spread, freedom = self._log_moments()
        return float(stats.t.sf((np.log(max(value, SMALLEST)) - mean) / spread, freedom))

    def _log_moments(self) -> tuple[float, float, int]:
        """Mean of the log distances, prediction spread s sqrt(1 + 1/K), degrees of freedom."""
        logs = np.log(np.maximum(self.distances, SMALLEST))
        count = len(logs)
        spread = float(logs.std(ddof=1) * np.sqrt(1 + 1 / count))
        return float(logs.mean()), max(spread, SMALLEST), count - 1
