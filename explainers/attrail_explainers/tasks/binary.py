"""Binary: one output says whether an image is of class 1 or of class 0."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray

from attrail_explainers.model.last_function import End
from attrail_explainers.model.output_scale import OutputScale, binary_scale_of
from attrail_explainers.model.task import Asked
from attrail_explainers.tasks.single_label import SingleLabel


@dataclass(frozen=True)
class Binary(SingleLabel):
    """Class 1 or class 0 by one output: its logit is explained, with a minus for an image of class 0.

    Numbers in 0..1 for any image are taken for probabilities of class 1.
    """

    expected: ClassVar[str] = "one logit or probability (N,1)"

    def slope(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return self.score(outputs, asked)

    def scale_of(
        self, label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
    ) -> OutputScale:
        return binary_scale_of(label, outputs, end, more, precision)

    def flaw(self, asked: Mapping[str, NDArray[Any]], count: int) -> str | None:
        return super().flaw(asked, 2)


TASK = Binary
