"""Seed noise: how far apart maps of the same model and image are that differ in their random draws only."""

from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np

from attrail_explainers.assessment.check import Better, CheckResult
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.digest import seed_of
from attrail_explainers.explainer import Trait
from attrail_explainers.parameters import require_whole
from attrail_explainers.rank_agreement import spearman


@dataclass(frozen=True)
class SeedNoise:
    """Mean of 1 - Spearman over all pairs of maps made with ``seeds`` different seeds, 0..2.

    0 for explainers that draw nothing. A difference between two models below this is none. NaN when one of the maps
    is undefined.
    """

    seeds: int = 3

    better: ClassVar[Better] = Better.LOWER
    good: ClassVar[str] = "near 0: other draws give the same map; if not, raise evaluations"

    def __post_init__(self) -> None:
        require_whole("seeds", self.seeds, 2)

    def examine(self, case: CheckContext) -> CheckResult:
        if Trait.RANDOM not in case.explainer.traits:
            return CheckResult(np.where(case.maps.defined, 0.0, np.nan))
        others = [case.again(seed=seed_of("repeat", case.seed, turn)) for turn in range(1, self.seeds)]
        pairs = combinations([case.maps.values, *others], 2)
        return CheckResult(np.mean([1 - spearman(first, second) for first, second in pairs], axis=0))


CHECK = SeedNoise
