"""Kernel SHAP: Shapley values of superpixels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from attrail_explainers.explainer import Need, Trait
from attrail_explainers.runtime.blas import one_thread
from attrail_explainers.superpixels.coalitions import log_choose
from attrail_explainers.superpixels.evaluations import Evaluations
from attrail_explainers.superpixels.shared_method import SuperpixelMethod, Values


@dataclass(frozen=True)
class KernelShap(SuperpixelMethod):
    """Shapley values of superpixels (Lundberg & Lee, NeurIPS 2017): the emulator's, or by Shapley-kernel regression.

    Explains the target's log odds. Each superpixel's value is spread evenly over its pixels, so a map sums to
    f(image) - f(baseline) as shap's image explainers do; the diagnostic ``completeness_residual`` is what is missing,
    ``noise`` the values' standard deviation as a share of their spread. With every coalition enumerated the values
    equal ``shap.KernelExplainer``'s (``tests/explainers/methods/test_shap.py``).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.RANDOM})

    def values(self, evaluations: Evaluations) -> tuple[Values | str, dict[str, float]]:
        shapley = emulated(evaluations) if self.emulated(evaluations) else regressed(evaluations)
        if isinstance(shapley, str):
            return shapley, {}
        spread = shapley / np.bincount(evaluations.segments.ravel())
        missing = float(spread.astype(np.float32)[evaluations.segments].sum(dtype=np.float64))
        numbers = {"completeness_residual": missing - (evaluations.full - evaluations.empty)}
        if self.emulated(evaluations):
            numbers["noise"] = evaluations.emulator.noise
        return spread, numbers


def emulated(evaluations: Evaluations) -> Values | str:
    """The emulator's Shapley values (S,), or why there are none: half of their variance is uncertainty."""
    if evaluations.emulator.noise**2 >= 0.5:
        count = len(evaluations.log_odds) + 2
        return f"{count} evaluations are too few to tell the values of the superpixels from each other"
    return evaluations.emulator.shapley_values()


@one_thread()
def regressed(evaluations: Evaluations) -> Values | str:
    """Shapley values (S,) by weighted least squares under completeness, or why there are none.

    The constraint is met by eliminating the last superpixel, as in Lundberg & Lee's supplement.
    """
    coalitions = evaluations.coalitions
    if coalitions is None:
        return "fewer than two superpixels"
    count = coalitions.present.shape[1]
    total = evaluations.full - evaluations.empty
    sizes = coalitions.sizes
    kernel = np.exp(-log_choose(count, sizes)) / (sizes * (count - sizes))
    weight = kernel * coalitions.weight
    root = np.sqrt(weight / weight.max())
    last = coalitions.present[:, -1].astype(np.float64)
    design = (coalitions.present[:, :-1] - last[:, None]) * root[:, None]
    response = (evaluations.log_odds - evaluations.empty - last * total) * root
    solution, _, rank, _ = np.linalg.lstsq(design, response, rcond=None)
    if rank < count - 1:
        return f"{len(last)} evaluations do not determine the values of {count} superpixels"
    return np.asarray(np.append(solution, total - solution.sum()))


METHOD = KernelShap
