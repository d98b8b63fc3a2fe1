"""Multi-label: the model says of each label whether it is there."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit, log_expit, logit

from attrail_explainers.errors import ConfigError
from attrail_explainers.model.last_function import End
from attrail_explainers.model.output_scale import OutputScale, label_scale_of
from attrail_explainers.model.task import Answers, Asked, Target, Task, class_indices
from attrail_explainers.parameters import require_names, require_share
from attrail_explainers.slice import NONE, Slice


@dataclass(frozen=True)
class MultiLabel(Task):
    """Several labels may be there: the logit of each label that is, or is asked for, is explained by a map of its own.

    The rows of a slice are pairs of an image and one of its labels; all labels of an image share its evaluations. A
    label counts as found from the probability ``threshold`` on. A slice's table has them in its column ``labels``,
    joined by semicolons, or in ``columns`` of 0 and 1 that are called as the labels are. Those in ``ask`` are asked of
    every image, whether they are there or not.
    """

    threshold: float = 0.5
    columns: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()

    answers: ClassVar[str] = "labels"
    expected: ClassVar[str] = "logits (N,labels)"
    asks_by: ClassVar[str] = "labels"

    def __post_init__(self) -> None:
        require_share("threshold", self.threshold)
        for name in ("columns", "ask"):
            object.__setattr__(self, name, require_names(name, getattr(self, name)))
        super().__post_init__()

    def score(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return self.slope(outputs, asked).double()

    def slope(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return outputs.gather(1, asked["class"][:, None])[:, 0]

    def scale_of(
        self, label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
    ) -> OutputScale:
        return label_scale_of(label, outputs, end, more, precision)

    def asked(self, slice_: Slice) -> Target:
        return Target(self, {"class": slice_.labels})

    def answered(self, slice_: Slice, outputs: NDArray[np.float32]) -> Target:
        return self.asked(slice_)  # the rows of a slice are labels already

    def given(self, targets: Any, images: NDArray[np.float32], names: tuple[str, ...]) -> tuple[Slice, Target]:
        slice_ = labelled_rows("images", images, names, label_lists(targets, len(images)))
        return slice_, self.asked(slice_)

    def flaw(self, asked: Mapping[str, NDArray[Any]], count: int) -> str | None:
        labels = asked["class"]
        unknown = (labels < 0) | (labels >= count)
        return f"label {labels[int(unknown.argmax())]} cannot be explained" if unknown.any() else None

    def chosen(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return torch.where(self.slope(outputs, asked) >= self._least, asked["class"], NONE)

    def decided(self, slice_: Slice, outputs: NDArray[np.float32], target: Target) -> Answers:
        found = np.take_along_axis(outputs, slice_.labels[:, None], axis=1)[:, 0].astype(np.float64)
        there, sure = found >= self._least, expit(found)
        present = slice_.facts.get("present")
        truths = None if present is None else np.where(present, slice_.labels, NONE)
        return Answers(np.where(there, slice_.labels, NONE), truths, np.where(there, sure, 1 - sure))

    def divergence(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """The mean Kullback-Leibler divergence over images and labels, each there or not, in nats."""
        one, other = (each.astype(np.float64) for each in (first, second))
        there = expit(one) * (log_expit(one) - log_expit(other))
        return float(max(0.0, (there + expit(-one) * (log_expit(-one) - log_expit(-other))).mean()))

    def churn(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        return float(((first >= self._least) != (second >= self._least)).mean())

    @property
    def _least(self) -> float:
        return float(logit(self.threshold))


def label_lists(targets: Any, images: int) -> list[NDArray[np.int64]]:
    """The label indices of each image, from as many lists or from an array (N,labels) of 0 and 1.

    Raises ConfigError for anything else, and where no image has a label.
    """
    if isinstance(targets, torch.Tensor):
        targets = targets.detach().cpu().numpy()
    if isinstance(targets, np.ndarray) and targets.ndim == 2:
        if not np.isin(targets, (0, 1)).all():
            raise ConfigError("targets (N,labels) must hold 1 where an image has a label and 0 where it has not")
        found = [np.flatnonzero(row).astype(np.int64) for row in targets]
    else:
        if not isinstance(targets, Sequence) or any(np.ndim(each) != 1 for each in targets):
            raise ConfigError("targets must be a list of labels for each image, or an array (N,labels) of 0 and 1")
        found = [class_indices(each, "targets of an image") for each in targets]
    if len(found) != images:
        raise ConfigError(f"targets must be labels of {images} images, got those of {len(found)}")
    if not any(len(each) for each in found):
        raise ConfigError("no image has a label: there is nothing to explain")
    return found


def labelled_rows(
    name: str, images: NDArray[np.float32], names: Sequence[str], labels: Sequence[NDArray[np.int64]]
) -> Slice:
    """Images (N,C,H,W) as a slice with a row for each label of each; the row is called after both, as "cat.png [3]"."""
    pairs = [(row, label) for row, own in enumerate(labels) for label in own.tolist()]
    rows = np.array([row for row, _ in pairs])
    ids = tuple(f"{names[row]} [{label}]" for row, label in pairs)
    image_ids = tuple(names[row] for row, _ in pairs)
    return Slice(name, images[rows], np.concatenate(labels), ids, image_ids=image_ids)


TASK = MultiLabel
