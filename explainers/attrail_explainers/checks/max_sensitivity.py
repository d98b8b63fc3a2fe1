"""Max-sensitivity: how far a map moves when slight noise is added to its image."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.assessment.check import Better, CheckResult
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.digest import seed_of
from attrail_explainers.parameters import require_number, require_whole


@dataclass(frozen=True)
class MaxSensitivity:
    """Largest relative change of the map under slight noise (Yeh et al., NeurIPS 2019), 0 and up.

    The Euclidean norm of the change over that of the map, the largest of ``draws`` copies of the image with uniform
    noise of at most ``radius`` times the image's own range of values. The explainer's own draws stay the same. NaN
    when a noisy copy has no map.
    """

    radius: float = 0.02
    draws: int = 5

    better: ClassVar[Better] = Better.LOWER
    good: ClassVar[str] = "well below 1: 1 is a map that moved by as much as it holds"

    def __post_init__(self) -> None:
        require_number("radius", self.radius, "be a number above 0 and at most 1", lambda radius: 0 < radius <= 1)
        require_whole("draws", self.draws, 1)

    def examine(self, case: CheckContext) -> CheckResult:
        largest = np.where(case.maps.defined, 0.0, np.nan)
        for draw in range(self.draws):
            noisy = case.again(images=self.noisy(case, draw))
            largest = np.maximum(largest, relative_change(case.maps.values, noisy))
        return CheckResult(largest)

    def noisy(self, case: CheckContext, draw: int) -> NDArray[np.float32]:
        """Noisy copies (N,C,H,W) of the images, each drawn for its sample id."""
        copies = case.slice_.images.copy()
        for row, sample in enumerate(case.slice_.pictured):
            generator = np.random.default_rng(seed_of("noise", case.seed, sample, draw))
            reach = self.radius * np.ptp(copies[row])
            copies[row] += reach * generator.uniform(-1, 1, copies[row].shape).astype(np.float32)
        return copies


def relative_change(maps: NDArray[np.float32], others: NDArray[np.float32]) -> NDArray[np.float64]:
    """Norm (N,) of the change from maps (N,h,w) over the maps' own; an all-zero map counts as one of norm 1."""
    axes = (1, 2)
    norms = np.linalg.norm(maps.astype(np.float64), axis=axes)
    changes = np.linalg.norm(others.astype(np.float64) - maps, axis=axes)
    return np.asarray(changes / np.where(norms == 0, 1.0, norms))


CHECK = MaxSensitivity
