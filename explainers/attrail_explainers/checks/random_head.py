"""Random head: how much of a map stays when the model forgets its classes, but nothing else."""

from dataclasses import dataclass
from typing import ClassVar

from attrail_explainers.assessment.check import Better, CheckResult
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.assessment.weight_randomisation import examine_randomised, head_weights
from attrail_explainers.parameters import require_whole


@dataclass(frozen=True)
class RandomHead:
    """Spearman between the map and that of the model with its last layer shuffled, -1..1.

    The first step of the cascade of Adebayo et al. (NeurIPS 2018), mean over ``draws`` random heads that give a map.
    A map that stays the same shows what the model sees, not what it sees of the target.
    """

    draws: int = 3

    better: ClassVar[Better] = Better.LOWER
    good: ClassVar[str] = "clearly below 1: the map depends on the class, not features alone"

    def __post_init__(self) -> None:
        require_whole("draws", self.draws, 1)

    def examine(self, case: CheckContext) -> CheckResult:
        return examine_randomised(case, head_weights, self.draws)


CHECK = RandomHead
