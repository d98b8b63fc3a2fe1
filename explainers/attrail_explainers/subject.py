"""What is explained: a chunk of images, their targets and a model; what explainers share is kept while it lives."""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.model.task import Target
from attrail_explainers.model.working_copy import WorkingCopy


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
    """``images`` (N,C,H,W) on the model's device, their ``target``, N ``sample_ids``, the seed of all draws.

    Several rows may ask about one image: they have its sample id, and ``asked`` is all that is asked of each image, by
    sample id, with the ``places`` (N,) of these rows in it; where it is None each row is an image of its own.
    ``shared`` keeps what one explainer computes and others ask for too, under a key that begins with the sample id and
    says what it depends on.
    """

    model: WorkingCopy
    images: torch.Tensor
    target: Target
    sample_ids: tuple[str, ...]
    seed: int
    target_layer: str | None = None
    row_done: Callable[[], object] = lambda: None
    examples: Examples | None = None
    shared: dict[tuple[Hashable, ...], Any] = field(default_factory=dict)
    asked: Mapping[str, Target] | None = None
    places: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.sample_ids)

    def rows(self) -> Iterator[int]:
        """Row numbers for explainers that work image by image; each one done counts as progress."""
        for row in range(len(self)):
            yield row
            self.row_done()

    def asked_of(self, row: int) -> tuple[Target, int]:
        """All that is asked of a row's image, and which of it the row is."""
        if self.asked is None:
            return self.target.row(row), 0
        return self.asked[self.sample_ids[row]], self.places[row]

    def with_layer(self, layer: str | None) -> "Subject":
        """A copy of the subject, with what its explainers share, with the target layer an explainer uses."""
        return replace(self, target_layer=layer)
