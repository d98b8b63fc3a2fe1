"""Regression: the model gives a number."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.model.last_function import End
from attrail_explainers.model.output_scale import Outputs, OutputScale
from attrail_explainers.model.task import Answers, Asked, Target, Task
from attrail_explainers.parameters import require_positive, require_whole
from attrail_explainers.slice import NONE, Slice


@dataclass(frozen=True)
class Regression(Task):
    """A number for an image: the number itself is explained, in its own unit.

    ``column`` says which of several. Numbers that are further than ``tolerance`` apart are different decisions; without
    one nothing is decided.
    """

    column: int | None = None
    tolerance: float | None = None

    answers: ClassVar[str] = "columns"
    expected: ClassVar[str] = "numbers (N,columns)"
    asks_by: ClassVar[str] = "value"
    decides: ClassVar[bool] = False
    link: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.column is not None:
            require_whole("column", self.column, 0)
        if self.tolerance is not None:
            require_positive("tolerance", self.tolerance)
        super().__post_init__()

    def score(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return self.slope(outputs, asked).double()

    def slope(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return outputs.gather(1, asked["column"][:, None])[:, 0]

    def scale_of(
        self, label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
    ) -> OutputScale:
        count = outputs.shape[1]
        if self.column is None and count > 1:
            raise UnsupportedModelError(
                f"model {label} returns {count} numbers for an image: say which one is meant by the task's column, "
                f"0..{count - 1}"
            )
        return OutputScale(Outputs.VALUES)

    def asked(self, slice_: Slice) -> Target:
        return Target(self, {"column": np.full(len(slice_), self.column or 0, dtype=np.int64)})

    def answered(self, slice_: Slice, outputs: NDArray[np.float32]) -> Target:
        return self.asked(slice_)

    def given(self, targets: Any, images: NDArray[np.float32], names: tuple[str, ...]) -> tuple[Slice, Target]:
        if targets is not None:
            raise ConfigError("task regression explains the model's own number: leave targets out")
        slice_ = Slice("images", images, np.full(len(images), NONE, dtype=np.int64), names)
        return slice_, self.asked(slice_)

    def flaw(self, asked: Mapping[str, NDArray[Any]], count: int) -> str | None:
        return None if (self.column or 0) < count else f"column {self.column} cannot be explained"

    def decided(self, slice_: Slice, outputs: NDArray[np.float32], target: Target) -> Answers | None:
        if self.tolerance is None:
            return None
        return Answers(self._numbers(outputs), slice_.facts.get("value"), None, self.tolerance)

    def divergence(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """Half the mean squared difference in the first's variances: that of two normal distributions, in nats."""
        one, other = self._numbers(first), self._numbers(second)
        return float(((one - other) ** 2).mean() / (2 * max(one.var(), np.finfo(float).tiny)))

    def churn(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        if self.tolerance is None:
            return 0.0
        return float((np.abs(self._numbers(first) - self._numbers(second)) > self.tolerance).mean())

    def _numbers(self, outputs: NDArray[np.float32]) -> NDArray[np.float64]:
        return outputs[:, self.column or 0].astype(np.float64)


TASK = Regression
