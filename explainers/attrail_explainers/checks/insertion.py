"""Insertion: the target's probability while what the map points at is put into a blank image."""

from dataclasses import dataclass
from typing import ClassVar

from attrail_explainers.assessment.check import Better, CheckResult
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.assessment.pixel_flipping import examine_curves, require_curve
from attrail_explainers.baselines import Baseline


@dataclass(frozen=True)
class Insertion:
    """Area under the target's probability while pixels come, largest values first (Petsiuk et al., BMVC 2018), 0..1.

    In ``steps`` equal shares of the pixels, put into ``baseline``: the blurred image, as in the paper, whose soft
    edges mislead the model less than those of a plain canvas. "chance" is the area for a random smooth map.
    """

    steps: int = 32
    baseline: Baseline = "blur"

    better: ClassVar[Better] = Better.HIGHER
    good: ClassVar[str] = "well above chance: the marked pixels alone bring the class back"

    def __post_init__(self) -> None:
        require_curve(self.steps, self.baseline)

    def examine(self, case: CheckContext) -> CheckResult:
        return examine_curves(case, self.steps, self.baseline, "insert")


CHECK = Insertion
