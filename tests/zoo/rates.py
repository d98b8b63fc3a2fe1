"""Rates with their intervals, and the area under the ROC curve."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from judging import Judged
from scipy.stats import binomtest, rankdata

RESAMPLES = 2000


@dataclass(frozen=True)
class Rate:
    """``hits`` of ``trials`` with 95 % limits: Wilson's, as if pairs were independent, and those of a bootstrap.

    The bootstrap draws families (data set and architecture), and in each the candidates' models, with replacement.
    """

    hits: int
    trials: int
    wilson: tuple[float, float]
    clustered: tuple[float, float]

    @property
    def share(self) -> float:
        return self.hits / self.trials


def rate(found: Sequence[Judged], detector: str) -> Rate:
    """How often a detector flags."""
    hits = sum(each.flagged(detector) for each in found)
    interval = binomtest(hits, len(found)).proportion_ci(0.95, method="wilson")
    return Rate(hits, len(found), (interval.low, interval.high), _clustered(found, detector))


def power(found: Sequence[Judged], detector: str) -> float:
    """Share of pairs flagged, NaN without any."""
    return float(np.mean([each.flagged(detector) for each in found])) if found else float("nan")


def auc(harmful: Sequence[Judged], benign: Sequence[Judged], detector: str) -> float:
    """Chance that a harmful pair scores above a benign one, ties half (Mann & Whitney); NaN without any."""
    return area([each.score(detector) for each in harmful], [each.score(detector) for each in benign])


def area(harmful: Sequence[float], benign: Sequence[float]) -> float:
    """The same of scores."""
    if not harmful or not benign:
        return float("nan")
    ranks, count = rankdata([*harmful, *benign]), len(harmful)
    return float((ranks[:count].sum() - count * (count + 1) / 2) / (count * len(benign)))


def mean_auc(harmful: Sequence[Judged], benign: Sequence[Judged], detector: str) -> float:
    """Mean of the areas within each data set and architecture: a line may be drawn anew for each."""
    areas = []
    for family in sorted({each.pair.family for each in harmful}):
        first, second = ([each for each in part if each.pair.family == family] for part in (harmful, benign))
        areas.append(auc(first, second, detector))
    return float(np.mean(areas)) if areas else float("nan")


def _clustered(found: Sequence[Judged], detector: str) -> tuple[float, float]:
    counts: dict[tuple[str, str], dict[tuple[str, str, str], list[int]]] = {}
    for each in found:
        model = counts.setdefault(each.pair.family, {}).setdefault(each.pair.model, [0, 0])
        model[0] += each.flagged(detector)
        model[1] += 1
    families = [np.array(list(models.values())) for models in counts.values()]
    generator = np.random.default_rng(0)
    shares = []
    for _ in range(RESAMPLES):
        drawn = [families[place] for place in generator.integers(0, len(families), len(families))]
        hits, trials = np.sum([each[generator.integers(0, len(each), len(each))].sum(axis=0) for each in drawn], axis=0)
        shares.append(hits / trials)
    low, high = np.quantile(shares, [0.025, 0.975])
    return float(low), float(high)
