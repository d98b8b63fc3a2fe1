"""Deletion: the target's probability while what the map points at is removed."""

from dataclasses import dataclass
from typing import ClassVar

from attrail_explainers.assessment.check import Better, CheckResult
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.assessment.pixel_flipping import examine_curves, require_curve
from attrail_explainers.baselines import Baseline


@dataclass(frozen=True)
class Deletion:
    """Area under the target's probability while pixels go, largest values first (Petsiuk et al., BMVC 2018), 0..1.

    In ``steps`` equal shares of the pixels, replaced by ``baseline``: zero in the model's own units, as in the
    authors' code. "chance" is the area for a random smooth map.
    """

    steps: int = 32
    baseline: Baseline = "zero"

    better: ClassVar[Better] = Better.LOWER
    good: ClassVar[str] = "well below chance: the class is lost once the marked pixels go"

    def __post_init__(self) -> None:
        require_curve(self.steps, self.baseline)

    def examine(self, case: CheckContext) -> CheckResult:
        return examine_curves(case, self.steps, self.baseline, "remove")


CHECK = Deletion
