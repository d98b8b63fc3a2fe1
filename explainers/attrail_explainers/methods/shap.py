"""Kernel SHAP: Shapley values of superpixels."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.coalitions import log_choose
from attrail_explainers.evaluations import Baseline, Evaluations, Perturbation
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.segmentation import Segmentation
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class KernelShap:
    """Shapley values of superpixels by Shapley-kernel regression (Lundberg & Lee, NeurIPS 2017).

    Explains the target's log odds. Each superpixel's value is spread evenly over its pixels, so a map sums to
    f(image) - f(baseline) as shap's image explainers do; the diagnostic ``completeness_residual`` is what is missing.
    With every coalition enumerated the values equal ``shap.KernelExplainer``'s (``tests/explainers/test_shap.py``).
    """

    segments: int = 32
    compactness: float = 10.0
    baseline: Baseline = "blur"
    evaluations: int = 256

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.RANDOM})

    def __post_init__(self) -> None:
        self.perturbation()

    def perturbation(self) -> Perturbation:
        return Perturbation(Segmentation(self.segments, self.compactness), self.baseline, self.evaluations)

    def attribute(self, subject: Subject) -> Maps:
        perturbation = self.perturbation()
        values = np.full((len(subject), *subject.images.shape[2:]), np.nan, dtype=np.float32)
        undefined, residual = {}, np.full(len(subject), np.nan)
        for row in subject.rows():
            evaluations = subject.evaluations(row, perturbation)
            shapley = shapley_values(evaluations)
            if isinstance(shapley, str):
                undefined[row] = shapley
                continue
            areas = np.bincount(evaluations.segments.ravel())
            values[row] = (shapley / areas)[evaluations.segments]
            residual[row] = values[row].sum(dtype=np.float64) - (evaluations.full - evaluations.empty)
        return Maps(values, undefined, {"completeness_residual": residual})


def shapley_values(evaluations: Evaluations) -> NDArray[np.float64] | str:
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
