"""Random weights: how much of a map stays when the model forgets all it has learned."""

from dataclasses import dataclass
from typing import ClassVar

from attrail_explainers.assessment.check import Better, CheckResult
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.assessment.weight_randomisation import every_weight, examine_randomised
from attrail_explainers.parameters import require_whole


@dataclass(frozen=True)
class RandomWeights:
    """Spearman between the map and that of the model with all weights shuffled (Adebayo et al., NeurIPS 2018), -1..1.

    Mean over ``draws`` random models that give a map. A map that stays the same shows the image, not the model.
    """

    draws: int = 3

    better: ClassVar[Better] = Better.LOWER
    good: ClassVar[str] = "near 0 or below: the map depends on what the model learned"

    def __post_init__(self) -> None:
        require_whole("draws", self.draws, 1)

    def examine(self, case: CheckContext) -> CheckResult:
        return examine_randomised(case, every_weight, self.draws)


CHECK = RandomWeights
