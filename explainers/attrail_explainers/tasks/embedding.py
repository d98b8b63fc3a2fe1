"""Embedding: the model gives a vector, by which like images are found."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import ConfigError
from attrail_explainers.model.last_function import End
from attrail_explainers.model.output_scale import Outputs, OutputScale
from attrail_explainers.model.task import Answers, Asked, Target, Task
from attrail_explainers.slice import NONE, Slice

BLOCK = 1024  # images whose neighbours are sought together


@dataclass(frozen=True)
class Embedding(Task):
    """A vector for an image: the cosine with a stored vector is explained, or with the image's own by the reference.

    Gradient methods take the dot product with that vector at length 1 (Chen et al., WACV 2020): the cosine of an
    embedding with itself is at its largest, where every gradient is 0. What is decided is the nearest other image of
    the slice, or its label where labels are known.
    """

    answers: ClassVar[str] = "dimensions"
    expected: ClassVar[str] = "embeddings (N,dimensions)"
    asks_by: ClassVar[str] = "query"
    decides: ClassVar[bool] = False
    link: ClassVar[bool] = False
    lacking: ClassVar[bool] = True

    def score(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return torch.nn.functional.cosine_similarity(outputs.double(), asked["query"].double(), dim=1)

    def slope(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        query = torch.nn.functional.normalize(asked["query"].to(outputs.dtype), dim=1)
        return (outputs * query).sum(dim=1)

    def scale_of(
        self, label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
    ) -> OutputScale:
        return OutputScale(Outputs.EMBEDDING)

    def asked(self, slice_: Slice) -> Target | None:
        query = slice_.facts.get("query")
        return None if query is None else Target(self, {"query": query})

    def answered(self, slice_: Slice, outputs: NDArray[np.float32]) -> Target:
        return Target(self, {"query": np.asarray(outputs, dtype=np.float32)})

    def given(self, targets: Any, images: NDArray[np.float32], names: tuple[str, ...]) -> tuple[Slice, Target | None]:
        labels = np.full(len(images), NONE, dtype=np.int64)
        if targets is None:
            return Slice("images", images, labels, names), None
        query = np.asarray(torch.as_tensor(targets).detach().cpu().numpy(), dtype=np.float32)
        if query.ndim != 2 or len(query) != len(images) or not np.isfinite(query).all():
            raise ConfigError(
                f"targets must be a finite vector for each of {len(images)} images, (N,dimensions), got an array of "
                f"shape {query.shape}; without targets it is the model's own embedding"
            )
        slice_ = Slice("images", images, labels, names, facts={"query": query})
        return slice_, Target(self, {"query": query})

    def flaw(self, asked: Mapping[str, NDArray[Any]], count: int) -> str | None:
        found = asked["query"].shape[1]
        return None if found == count else f"the cosine with vectors of {found} numbers cannot be explained"

    def unanswered(self, outputs: torch.Tensor, asked: Asked) -> dict[int, str]:
        nothing = ~(outputs.any(dim=1) & asked["query"].any(dim=1))
        return dict.fromkeys(nothing.nonzero()[:, 0].tolist(), "an embedding that is zero has no direction")

    def decided(self, slice_: Slice, outputs: NDArray[np.float32], target: Target) -> Answers | None:
        if len(slice_) < 2:
            return None
        nearest = neighbours(outputs)
        if (slice_.labels == NONE).any():
            return Answers(nearest)
        return Answers(slice_.labels[nearest], slice_.labels)

    def divergence(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """The mean of 1 - cosine of an image's two embeddings."""
        return float(max(0.0, (1 - (units(first) * units(second)).sum(axis=1)).mean()))

    def churn(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        return float((neighbours(first) != neighbours(second)).mean()) if len(first) > 1 else 0.0


def units(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Vectors (N,D) at length 1; one that is zero stays zero."""
    plain = vectors.astype(np.float64)
    length = np.linalg.norm(plain, axis=1, keepdims=True)
    return np.asarray(plain / np.where(length > 0, length, 1))


def neighbours(vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    """The row (N,) of the other vector with the largest cosine to each of (N,D)."""
    found, directions = [], units(vectors)
    for start in range(0, len(directions), BLOCK):
        cosines = directions[start : start + BLOCK] @ directions.T
        cosines[np.arange(len(cosines)), np.arange(start, start + len(cosines))] = -np.inf
        found.append(cosines.argmax(axis=1))
    return np.concatenate(found).astype(np.int64)


TASK = Embedding
