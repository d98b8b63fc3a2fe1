"""Single label: the model chooses one class of several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax

from attrail_explainers.model.divergence import churn, mean_divergence
from attrail_explainers.model.last_function import End
from attrail_explainers.model.log_odds import target_log_odds
from attrail_explainers.model.output_scale import OutputScale, scale_of
from attrail_explainers.model.task import Answers, Asked, Target, Task, class_indices
from attrail_explainers.slice import Slice


@dataclass(frozen=True)
class SingleLabel(Task):
    """One class of several for an image: its log odds are explained, of the label or of the reference's own choice.

    Gradient methods take the class's logit, as the papers they are from do. One output stands for two classes.
    """

    @classmethod
    def of(cls, classes: Sequence[int] | NDArray[np.int64] | torch.Tensor) -> Target:
        """The target of N class indices."""
        return Target(cls(), {"class": class_indices(classes)})

    def score(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        """Row by row where classes differ: a sum over classes then never depends on which rows stand together."""
        classes = asked["class"].tolist()
        if len(set(classes)) == 1:
            return target_log_odds(outputs, classes[0])
        return torch.cat([target_log_odds(row[None], each) for row, each in zip(outputs, classes, strict=True)])

    def slope(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return outputs.gather(1, asked["class"][:, None])[:, 0]

    def scale_of(
        self, label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
    ) -> OutputScale:
        return scale_of(label, outputs, end, more, precision)

    def asked(self, slice_: Slice) -> Target:
        return Target(self, {"class": slice_.labels})

    def answered(self, slice_: Slice, outputs: NDArray[np.float32]) -> Target:
        return Target(self, {"class": outputs.argmax(axis=1).astype(np.int64)})

    def given(self, targets: Any, images: NDArray[np.float32], names: tuple[str, ...]) -> tuple[Slice, Target]:
        classes = class_indices(targets)
        return Slice("images", images, classes, names), Target(self, {"class": classes})

    def flaw(self, asked: Mapping[str, NDArray[Any]], count: int) -> str | None:
        classes = asked["class"]
        unknown = (classes < 0) | (classes >= count)
        return f"class {classes[int(unknown.argmax())]} cannot be explained" if unknown.any() else None

    def chosen(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return outputs.argmax(dim=1)

    def decided(self, slice_: Slice, outputs: NDArray[np.float32], target: Target) -> Answers:
        sure = softmax(outputs.astype(np.float64), axis=1).max(axis=1)
        return Answers(outputs.argmax(axis=1).astype(np.int64), slice_.labels, sure)

    def divergence(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        return mean_divergence(first, second)

    def churn(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        return churn(first, second)


TASK = SingleLabel
