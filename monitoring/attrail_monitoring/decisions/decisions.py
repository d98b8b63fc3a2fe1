"""Decisions: what one version predicts on a slice, how sure it is, and what would be right."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import softmax

from attrail_explainers.errors import ConfigError, IncomparableError

Rows = NDArray[np.bool_]
BLOCK = 4096  # images at a time: their probabilities of all classes are only needed for the largest


@dataclass(frozen=True, eq=False)
class Decisions:
    """What one version decided on a slice: ``predictions`` (N,), the predicted classes, -1 for none.

    ``labels`` (N,) are the right classes and ``confidences`` (N,), 0..1, the probabilities of the predicted ones, each
    None where nobody knows them. ``images`` (N,) names the image that each is about, where several are about one: these
    stand together. With a ``tolerance`` predictions and labels are numbers instead, of which those are
    equal that are no further apart. Raises ConfigError when they are not of the same images or no probabilities::

        Decisions.of(logits, labels)
    """

    predictions: NDArray[Any]
    labels: NDArray[Any] | None = None
    confidences: NDArray[np.float64] | None = None
    tolerance: float | None = None
    images: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        predictions, numbers = np.asarray(self.predictions), self.tolerance is not None
        if predictions.ndim != 1 or not (numbers or np.issubdtype(predictions.dtype, np.integer)):
            raise ConfigError(
                f"decisions: predictions must be one class index for each image, got {predictions.dtype} of shape "
                f"{predictions.shape}"
            )
        decided = np.float64 if numbers else np.int64
        object.__setattr__(self, "predictions", predictions.astype(decided))
        for name, kind in (("labels", decided), ("confidences", np.float64)):
            given = getattr(self, name)
            if given is not None:
                found = _like(np.asarray(given), predictions, name, whole=name == "labels" and not numbers)
                object.__setattr__(self, name, found.astype(kind))
        if self.confidences is not None and not ((self.confidences >= 0) & (self.confidences <= 1)).all():
            raise ConfigError("decisions: confidences must be probabilities of the predicted classes, 0..1")

    @classmethod
    def of(cls, logits: ArrayLike, labels: ArrayLike | None = None) -> "Decisions":
        """What logits (N,classes) decide: the top class, with its probability by softmax.

        Raises ConfigError for logits that are no numbers, or not of one row for each image.
        """
        found = np.asarray(logits)
        if found.ndim != 2 or not found.size or not np.isfinite(found.max(axis=1)).all():
            raise ConfigError(f"decisions: logits must be numbers (N,classes) of some images, got shape {found.shape}")
        starts = range(0, len(found), BLOCK)
        sure = [softmax(found[start : start + BLOCK].astype(np.float64), axis=1).max(axis=1) for start in starts]
        known = None if labels is None else np.asarray(labels)
        return cls(found.argmax(axis=1), known, np.concatenate([np.empty(0), *sure]).clip(0, 1))

    @property
    def right(self) -> Rows | None:
        """(N,) where the prediction is right, None without labels."""
        return None if self.labels is None else self._same(self.labels)

    def same(self, other: "Decisions") -> Rows:
        """(N,) where another version's prediction is the same."""
        return self._same(other.predictions)

    def _same(self, others: NDArray[Any]) -> Rows:
        if self.tolerance is None:
            return np.asarray(self.predictions == others)
        return np.asarray(np.abs(self.predictions - others) <= self.tolerance)

    def at(self, rows: Rows) -> "Decisions":
        """The decisions about some of the images, those where ``rows`` (N,) is true."""
        labels = None if self.labels is None else self.labels[rows]
        confidences = None if self.confidences is None else self.confidences[rows]
        images = None if self.images is None else self.images[rows]
        return Decisions(self.predictions[rows], labels, confidences, self.tolerance, images)

    def __len__(self) -> int:
        return len(self.predictions)


def require_same_images(slice_name: str, reference: Decisions, other: Decisions) -> None:
    """Raise IncomparableError unless both are about the same images, and the same is known of both."""
    where = f"decisions on slice {slice_name!r}"
    if len(reference) != len(other):
        raise IncomparableError(f"{where} are about {len(reference)} images and about {len(other)}: give the same ones")
    for name in ("labels", "confidences"):
        if (getattr(reference, name) is None) != (getattr(other, name) is None):
            raise IncomparableError(f"{where} have {name} for one version alone: give them for every version or none")
    if not np.array_equal(_known(reference.labels), _known(other.labels)):
        raise IncomparableError(f"{where} have other labels for one version than for another: give the same ones")


def _known(labels: NDArray[Any] | None) -> NDArray[Any]:
    return np.empty(0, dtype=np.int64) if labels is None else labels


def _like(
    given: NDArray[np.generic], predictions: NDArray[np.generic], name: str, *, whole: bool
) -> NDArray[np.generic]:
    if given.shape != predictions.shape:
        raise ConfigError(
            f"decisions: {name} must be one number for each of {len(predictions)} predictions, got {given.shape}"
        )
    if whole and not np.issubdtype(given.dtype, np.integer):
        raise ConfigError(f"decisions: labels must be class indices, got {given.dtype}")
    return given
