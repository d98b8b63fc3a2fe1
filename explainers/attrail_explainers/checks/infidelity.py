"""Infidelity: how badly a map foretells by how much the output falls when squares are removed."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.assessment.check import Better, CheckResult
from attrail_explainers.assessment.context import CheckContext, Example
from attrail_explainers.assessment.pixel_flipping import kept_log_odds
from attrail_explainers.baselines import BASELINES, Baseline
from attrail_explainers.digest import seed_of
from attrail_explainers.parameters import require_choice, require_whole

SIDES = (1 / 8, 1 / 2)  # smallest and largest square, as shares of the image's shorter side


@dataclass(frozen=True)
class Infidelity:
    """Share of the output's falls that the map does not foretell (infidelity: Yeh et al., NeurIPS 2019), 0..1.

    Random squares are replaced by ``baseline``. A map's sum over a square stands for the fall of the target's log
    odds, up to the one factor per image that suits the map best (Yeh et al., as captum's ``normalize``) but is never
    negative: an inverted map foretells nothing. The infidelity is divided by that of an empty map, so 0 is perfect and
    1 no better than no map. Details, in squared log odds: "infidelity" as it stands and "scaled_infidelity" after
    scaling.
    """

    perturbations: int = 64
    baseline: Baseline = "blur"

    better: ClassVar[Better] = Better.LOWER
    good: ClassVar[str] = "near 0: the map foretells every fall; 1 is no better than an empty map"

    def __post_init__(self) -> None:
        require_whole("perturbations", self.perturbations, 2)
        require_choice("baseline", self.baseline, BASELINES)

    def examine(self, case: CheckContext) -> CheckResult:
        plain, scaled, share = (np.full(len(case), np.nan) for _ in range(3))
        for row, example in case.examples():
            squares = random_squares(example, self.perturbations, case.seed)
            keep = np.concatenate([np.ones_like(squares[:1]), ~squares])
            outputs = kept_log_odds(case.model, example, keep, self.baseline)
            foretold, falls = (squares * example.values).sum(axis=(1, 2)), outputs[0] - outputs[1:]
            plain[row] = np.mean((foretold - falls) ** 2)
            scaled[row] = np.mean((best_factor(foretold, falls) * foretold - falls) ** 2)
            share[row] = scaled[row] / np.mean(falls**2) if falls.any() else np.nan
        return CheckResult(share, {"infidelity": plain, "scaled_infidelity": scaled})


def random_squares(example: Example, count: int, seed: int) -> NDArray[np.bool_]:
    """Squares (M,H,W) of random side, centred anywhere in the image and cut at its edges, drawn for the sample id."""
    height, width = example.values.shape
    shorter = min(height, width)
    smallest, largest = (max(1, round(share * shorter)) for share in SIDES)
    generator = np.random.default_rng(seed_of("squares", seed, example.sample_id))
    sides = generator.integers(smallest, largest, count, endpoint=True)
    rows, columns = (_runs(generator.integers(0, extent, count), sides, extent) for extent in (height, width))
    return np.asarray(rows[:, :, None] & columns[:, None, :])


def best_factor(foretold: NDArray[np.float64], falls: NDArray[np.float64]) -> float:
    """The factor of at least 0 that brings (M,) closest to the other (M,)."""
    power = float((foretold**2).sum())
    return max(0.0, float((foretold * falls).sum()) / power) if power > 0 else 0.0


def _runs(centres: NDArray[np.int64], lengths: NDArray[np.int64], extent: int) -> NDArray[np.bool_]:
    """(M,extent) True for a length around each centre."""
    places = np.arange(extent) - (centres - lengths // 2)[:, None]
    return np.asarray((places >= 0) & (places < lengths[:, None]))


CHECK = Infidelity
