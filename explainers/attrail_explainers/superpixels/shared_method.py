"""What methods over shared superpixel evaluations have in common: their parameters, and how values become a map."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.baselines import Baseline
from attrail_explainers.explainer import Maps
from attrail_explainers.parameters import require_choice
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.evaluations import Evaluations, Perturbation, Perturbed, Precision
from attrail_explainers.superpixels.segmentation import Segmentation

Estimator = Literal["emulator", "regression"]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class SuperpixelMethod:
    """A method that values superpixels by evaluations with some of them removed.

    Methods with equal settings share one set of evaluations, see ``evaluations.Perturbation``. ``estimator`` says what
    is made of them when they are not all coalitions there are: "emulator" takes the method's values of a Gaussian
    process that was fitted to them, "regression" those of the evaluated coalitions alone, as the libraries do.
    """

    segments: int = 32
    compactness: float = 10.0
    baseline: Baseline = "blur"
    evaluations: int = 256
    tolerance: float | None = None
    precision: Precision = "float32"
    estimator: Estimator = "emulator"

    def __post_init__(self) -> None:
        self.perturbation()
        require_choice("estimator", self.estimator, get_args(Estimator))

    def perturbation(self) -> Perturbation:
        """Return how images are perturbed: equal settings share their evaluations."""
        segmentation = Segmentation(self.segments, self.compactness)
        return Perturbation(segmentation, self.baseline, self.evaluations, self.tolerance, self.precision)

    def attribute(self, subject: Subject) -> Maps:
        """Return a map (H,W) of each image: every pixel has the value of its superpixel."""
        values = np.full((len(subject), *subject.images.shape[2:]), np.nan, dtype=np.float32)
        undefined, diagnostics = {}, []
        for row in subject.rows():
            evaluations = shared_evaluations(subject, row, self.perturbation())
            found, numbers = self.values(evaluations)
            diagnostics.append(evaluations.diagnostics() | numbers)
            if isinstance(found, str):
                undefined[row] = found
            else:
                values[row] = found[evaluations.segments]
        names = sorted(set().union(*diagnostics))
        return Maps(
            values, undefined, {name: np.array([each.get(name, np.nan) for each in diagnostics]) for name in names}
        )

    def values(self, evaluations: Evaluations) -> tuple[Values | str, dict[str, float]]:
        """What each pixel of each superpixel (S,) gets, or why nothing; and diagnostics of this image."""
        raise NotImplementedError

    def emulated(self, evaluations: Evaluations) -> bool:
        """Whether values are the emulator's: asked for, and there are coalitions that were not evaluated."""
        coalitions = evaluations.coalitions
        return self.estimator == "emulator" and coalitions is not None and not coalitions.complete


def shared_evaluations(subject: Subject, row: int, perturbation: Perturbation) -> Evaluations:
    """The perturbed evaluations of one row of a subject; computed once, whichever methods and rows of an image ask."""
    (asked, place), sample_id = subject.asked_of(row), subject.sample_ids[row]
    key = (sample_id, perturbation)
    if (*key, place) not in subject.shared:
        perturbed: Perturbed = subject.shared.get(key) or Perturbed(
            [subject.model], subject.images[row], asked, sample_id, subject.seed, perturbation
        )
        (subject.shared[*key, place],) = perturbed.evaluations(place)
        if len(asked) > 1:
            subject.shared[key] = perturbed
    evaluations: Evaluations = subject.shared[*key, place]
    return evaluations
