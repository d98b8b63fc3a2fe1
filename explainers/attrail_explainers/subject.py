"""What is being explained: a chunk of images, their targets and a model; shared evaluations are kept while it lives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch

from attrail_explainers.evaluations import Evaluations, Perturbation, evaluate
from attrail_explainers.working_copy import WorkingCopy


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
