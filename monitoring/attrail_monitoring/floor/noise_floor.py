"""The noise floor: how far the maps move when nothing but what was declared changes."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
from scipy import stats

from attrail_monitoring.floor.factors import Factor
from attrail_monitoring.inference.power import detectable_excess
from attrail_monitoring.inference.prediction_bound import FEWEST, prediction_bound
from attrail_monitoring.inference.shared_spread import PooledSpread, SharedSpread

Surrogates = Literal["late-checkpoints", "last-block-refits", "dropout", "narrow-retrains"]
Source = Literal["retrains", "history", "surrogates", "repeats", "noise", Surrogates]
SURROGATES: tuple[Surrogates, ...] = get_args(Surrogates)
MEASURED: tuple[Source, ...] = ("noise", *SURROGATES)  # stand-ins whose factors to honest versions the zoo measures
TIERS = {
    "A": "19 or more models",
    "B": "4 to 18 models",
    "C": "approved history",
    "M": "matched noise: decides where the zoo has shown that it may, else gives PASS and notices",
    "D": "surrogates: decide where the zoo has shown that their kind may, else notify",
    "0": "no floor: margins only",
}
MODELS: dict[Source, str] = {
    "retrains": "reference retrain",
    "history": "approved version",
    "surrogates": "surrogate",
    "repeats": "repeat",
    "noise": "draw of weight noise",
    "late-checkpoints": "late checkpoint",
    "last-block-refits": "last-block refit",
    "dropout": "draw of dropout",
    "narrow-retrains": "narrow retrain",
}
SMALLEST = 1e-9
LARGEST_LOG = 700.0  # keeps the bound finite at any level
MOST_MORE = 60  # models that anybody would still train to narrow a bound


@dataclass(frozen=True)
class NoiseFloor:
    """Distances of K models from the reference on the same images, one per model.

    The model is the statistical unit: more images never replace more models. ``source`` says what the models are:
    "retrains" of the reference's recipe (for a declared fine-tune: fine-tunes of the reference), "history": versions
    that were approved before, "repeats": the reference explained anew with other seeds, which is all that may change
    when the function is the same, or stand-ins: "noise", the reference with random changes of its weights that move its
    answers as far as the candidate's, one of SURROGATES, which ``make zoo`` measures too, or "surrogates" of any other
    kind. ``shared`` is what other floors tell of its spread: those of the zoo, of all classes, which have few images
    each, or of other statistics. ``factor`` says how much further honest versions move than stand-ins, ``joint`` the
    same of what explainers see together. ``others`` is how many more models were given that have no distance here,
    ``others_lack`` what they have not got::

        NoiseFloor((0.21, 0.24, 0.19, 0.26, 0.22)).bound(alpha=0.05)  # where one more model stays, but for 5 %
    """

    distances: tuple[float, ...] = ()
    models: tuple[str, ...] = ()
    source: Source = "retrains"
    shared: SharedSpread | PooledSpread | None = None
    factor: Factor | None = None
    joint: Factor | None = None
    others: int = field(default=0, compare=False, kw_only=True)
    others_lack: str = field(default="", compare=False, kw_only=True)

    @property
    def tier(self) -> str:
        """One of TIERS: what may be concluded from it."""
        count = len(self.distances)
        if count < FEWEST:
            return "0"
        if self.source == "surrogates" or self.source in SURROGATES:
            return "D"
        return {"history": "C", "noise": "M"}.get(self.source, "A" if count >= 19 else "B")

    @property
    def may_flag(self) -> bool:
        """Whether what lies beyond its bound may be called DRIFT."""
        if self.tier in ("M", "D"):
            return self.factor is not None and self.factor.decides
        return self.tier != "0"

    @property
    def measured(self) -> bool:
        """Whether its models are stand-ins, and of a kind whose factors to honest versions the zoo measures."""
        return self.tier != "0" and self.source in MEASURED

    @property
    def lacking(self) -> str:
        """What is not known where there is no floor: to be said beside every verdict by margins alone."""
        count = len(self.distances)
        given = f"{count} of the {FEWEST} models that make a floor were given" if count else "no floor was given"
        if self.others:
            compared = f"{count or 'none'} of the floor's {count + self.others} models could be compared here"
            given = f"{compared}, where {FEWEST} make a floor: the others have {self.others_lack}"
        return f"{given}, so nothing says how far honest models move anyway"

    @property
    def mean(self) -> float | None:
        """The mean distance, the unit of "times the floor"; None without any."""
        return float(np.mean(self.distances)) if self.distances else None

    @property
    def reached(self) -> float:
        """As far as one honest version is known to move at least; 0 without models.

        What a model reached; of stand-ins that move further than honest versions, as much less as these do.
        """
        less = 1.0 if self.factor is None else min(1.0, self.factor.times)
        return less * max(self.distances, default=0.0)

    def bound(self, alpha: float) -> float | None:
        """What one more model exceeds with probability at most alpha, None with fewer than four models.

        t-prediction bound on log distances, exp(m + t s sqrt(1 + 1/K)) (Hahn & Meeker 1991, ch. 4), and never below
        what is ``reached``: where explanations have two modes, logs are far from normal. With a factor it is told by
        the factor's spread between families.
        """
        if self.tier == "0":
            return None
        mean, spread, freedom = self._log_moments()
        log_bound = prediction_bound(mean, spread, freedom, alpha)
        return max(float(np.exp(min(log_bound, LARGEST_LOG))), self.reached)

    def p_value(self, value: float) -> float | None:
        """Probability that one more model lands at ``value`` or beyond.

        Within the distances seen it is at least the exact rank probability (1 + those at or beyond) / (K + 1): below
        alpha exactly where beyond its bound, for alpha up to 2 / (K + 1).
        """
        if self.tier == "0":
            return None
        mean, spread, freedom = self._log_moments()
        tail = float(stats.t.sf((np.log(max(value, SMALLEST)) - mean) / spread, freedom))
        if self.factor is not None:  # stand-ins' own ranks say nothing of honest versions
            return tail
        reached = sum(distance >= value for distance in self.distances)
        return max(tail, (1 + reached) / (1 + len(self.distances))) if reached else tail

    def detectable(self, alpha: float, power: float) -> float | None:
        """The distance that exceeds the bound with chance ``power``; None with fewer than four models."""
        if self.tier == "0":
            return None
        mean, spread, freedom = self._log_moments()
        seen = mean + detectable_excess(freedom, alpha, power) * spread
        return max(float(np.exp(min(seen, LARGEST_LOG))), self.reached)

    def more_needed(self, target: float, alpha: float) -> int | None:
        """How many more models, spread like these, bring the bound below ``target``; None where 60 would not.

        The bound of few models is wide because their spread is hardly known: t with K - 1 degrees of freedom.
        """
        if self.tier == "0" or self.measured or max(self.distances) >= target:
            return None
        logs = np.log(np.maximum(self.distances, SMALLEST))
        for more in range(1, MOST_MORE + 1):
            spread, freedom = self._spread(len(logs) + more)
            if prediction_bound(float(logs.mean()), spread, freedom, alpha) < np.log(max(target, SMALLEST)):
                return more
        return None

    def _log_moments(self) -> tuple[float, float, float]:
        """Mean of the log distances, prediction spread s sqrt(1 + 1/K), degrees of freedom."""
        logs = np.log(np.maximum(self.distances, SMALLEST))
        count = len(logs)
        if self.factor is not None:
            families = self.factor.freedom + 1
            return (
                float(logs.mean()) + self.factor.log_mean,
                self.factor.log_sd * (1 + 1 / families) ** 0.5,
                self.factor.freedom,
            )
        return float(logs.mean()), *self._spread(count)

    def _spread(self, count: int) -> tuple[float, float]:
        """The prediction spread s sqrt(1 + 1/K) of ``count`` models that scatter like these, and its freedom."""
        variance = float(np.log(np.maximum(self.distances, SMALLEST)).var(ddof=1))
        variance, freedom = (variance, count - 1) if self.shared is None else self.shared.with_own(variance, count - 1)
        return max(float(np.sqrt(variance * (1 + 1 / count))), SMALLEST), float(freedom)


def models_of(floor: NoiseFloor) -> str:
    """A floor's models, counted: "5 reference retrains"."""
    count = len(floor.distances)
    return f"{count or 'no'} {MODELS[floor.source] if count == 1 else plural(floor.source)}"


def plural(source: Source) -> str:
    """What a floor's models are: "reference retrains"."""
    first, of, rest = MODELS[source].partition(" of ")
    return f"{first}s{of}{rest}"
