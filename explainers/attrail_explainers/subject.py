"""What is being explained: a chunk of images, their targets and a model; shared evaluations are kept while it lives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.superpixels.evaluations import Evaluations, Perturbation, evaluate


@dataclass(frozen=True, eq=False)
class Examples:
    """The images among which like ones are sought: the whole slice, whichever chunk of it is explained.

    ``images`` (N,C,H,W) float32 and N ``sample_ids``. ``features`` keeps what a method computes of all of them, under
    a name that tells what it depends on, for as long as the slice is being explained.
    """

    images: NDArray[np.float32]
    sample_ids: tuple[str, ...]
    features: dict[str, NDArray[np.float64]] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Subject:
    """``images`` (N,C,H,W) on the model's device, ``targets`` (N,) int64, N ``sample_ids``, the seed of all draws."""

    model: WorkingCopy
    images: torch.Tensor
    targets: torch.Tensor
    sample_ids: tuple[str, ...]
    seed: int
    target_layer: str | None = None
    row_done: Callable[[], object] = lambda: None
    examples: Examples | None = None
    _evaluations: dict[tuple[int, Perturbation], Evaluations] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.sample_ids)

    def rows(self) -> Iterator[int]:
        """Row numbers for explainers that work image by image; each one done counts as progress."""
        for row in range(len(self)):
            yield row
            self.row_done()

    def with_layer(self, layer: str | None) -> "Subject":
        """The same subject, its shared evaluations included, with the target layer an explainer uses."""
        return replace(self, target_layer=layer)

    def evaluations(self, row: int, perturbation: Perturbation) -> Evaluations:
        """The perturbed evaluations of one image; computed once, whoever asks."""
        key = (row, perturbation)
        if key not in self._evaluations:
            self._evaluations[key] = evaluate(
                self.model,
                self.images[row],
                int(self.targets[row]),
                self.sample_ids[row],
                self.seed,
                perturbation,
            )
        return self._evaluations[key]
