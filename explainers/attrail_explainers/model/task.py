"""A task: which kind of answer a model gives, and which one number of it a map explains; ``tasks/`` has a file of each.

Explainers, checks, shared evaluations and undefined maps know no task: they ask a ``Target`` for its ``score``.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from attrail_explainers.digest import digest_of, digest_of_arrays
from attrail_explainers.errors import ConfigError
from attrail_explainers.model.last_function import End
from attrail_explainers.model.output_scale import OutputScale
from attrail_explainers.parameters import settle
from attrail_explainers.plugins import Plugins
from attrail_explainers.slice import NONE, Questions, Slice

Rows = slice | NDArray[np.int64] | NDArray[np.bool_]
Asked = Mapping[str, torch.Tensor]

SINGLE_LABEL = "single_label"


@dataclass(frozen=True)
class Answers:
    """What a model decided about N rows of a slice.

    ``predictions`` (N,) are classes, ``NONE`` for no class, or numbers where a ``tolerance`` says from which distance
    on they differ. ``truths`` (N,) is what would have been right, ``confidences`` (N,), 0..1, how sure the model was;
    each None where nobody knows.
    """

    predictions: NDArray[Any]
    truths: NDArray[Any] | None = None
    confidences: NDArray[np.float64] | None = None
    tolerance: float | None = None


@dataclass(frozen=True)
class Task:
    """One kind of question to a model; a task's dataclass fields are its parameters, and enter digests.

    ``outputs`` are always one tensor (N,...), the part of what a model returned that ``fits``, on the task's own scale
    (``scale_of``), of which ``count`` tells the number of the model's ``answers``: classes, labels, columns. ``output``
    names that part, as "logits" of a dict; None where only one fits. ``decides`` says whether a class is chosen.
    Contracts, held by ``tests/explainers/tasks/test_tasks.py`` for every file there is: a score is one finite number
    for each row, of that row alone, with a gradient; one row of a target stands for any number of outputs; the same for
    every version.
    """

    output: str | None = None

    answers: ClassVar[str] = "classes"
    expected: ClassVar[str] = "logits (N,classes)"
    asks_by: ClassVar[str] = "label"  # column of a table: see ``attrail_monitoring.slices.questions``
    decides: ClassVar[bool] = True
    link: ClassVar[bool] = True  # whether scores are log odds
    whole: ClassVar[bool] = True  # whether outputs are about whole images, and not about places or objects in them
    lacking: ClassVar[bool] = False  # whether ``unanswered`` may find rows: then models are asked once more

    def __post_init__(self) -> None:
        if self.output is not None and not isinstance(self.output, str):
            raise ConfigError(f"output must be the name of a part of what the model returns, not {self.output!r}")
        settle(self)

    def score(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        """The number that is explained (N,), in double precision, of outputs (N,...)."""
        raise NotImplementedError

    def slope(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        """The number (N,) whose gradient gradient methods take; the score, where a task has no reason for another."""
        return self.score(outputs, asked)

    def response(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """What surrogates are fitted to and curves drawn of: probabilities where scores are log odds, else scores."""
        return np.asarray(expit(scores)) if self.link else scores

    def fits(self, part: torch.Tensor, images: int) -> bool:
        """Whether a part of what a model returned for so many images can be the task's outputs."""
        return part.is_floating_point() and part.ndim == 2 and len(part) == images and part.shape[1] > 0

    def parts(self, returned: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parts of what a model returned for images (N,C,H,W) that fit, by the names that ``output`` may have.

        A task whose outputs are no part, such as a detector's lists of boxes, makes its own tensor (N,...) here.
        """
        return {name: part for name, part in tensors_of(returned).items() if self.fits(part, len(images))}

    def count(self, shape: tuple[int, ...]) -> int:
        """How many ``answers`` a model has by the shape (N,...) of its outputs: as many as their second dimension."""
        return shape[1]

    def scale_of(
        self, label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
    ) -> OutputScale:
        """What a model's outputs are, found once; arguments as of ``output_scale.scale_of``."""
        raise NotImplementedError

    def rows_of(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs as numbers (N,K) of whole images, for looking for the layer that says where: see ``layers``."""
        return outputs

    def kept(self, outputs: torch.Tensor) -> torch.Tensor:
        """What of outputs (N,...) is kept for ``decided``, ``divergence`` and ``churn``: less, where they are large."""
        return outputs

    def leaves_open(self, slice_: Slice) -> bool:
        """Whether a slice leaves it to the reference's outputs what is asked of its images, as which objects."""
        return False

    def found(self, slice_: Slice, outputs: NDArray[np.float32], classes: Sequence[str] = ()) -> Questions:
        """What the reference's outputs (N,...) ask of a slice that leaves it open; ``classes`` are its names of them.

        Rows of an image stand together; an image about which nothing is asked has none.
        """
        raise NotImplementedError

    def asked(self, slice_: Slice) -> "Target | None":
        """What the slice itself asks; None where the reference's outputs must tell."""
        raise NotImplementedError

    def answered(self, slice_: Slice, outputs: NDArray[np.float32]) -> "Target":
        """What is asked of every version, fixed by the reference's outputs (N,...)."""
        raise NotImplementedError

    def given(self, targets: Any, images: NDArray[np.float32], names: tuple[str, ...]) -> "tuple[Slice, Target | None]":
        """What ``explain`` was given: images (N,C,H,W) with ``targets`` and N names, as a slice and what it asks.

        Raises ConfigError for targets that are none of the task's; None where the model's own outputs tell.
        """
        raise NotImplementedError

    def flaw(self, asked: Mapping[str, NDArray[Any]], count: int) -> str | None:
        """What cannot be asked of a model with so many answers, beginning with the first such row; None for nothing."""
        return None

    def unanswered(self, outputs: torch.Tensor, asked: Asked) -> dict[int, str]:
        """Rows that a model has no answer to, and why: no map there. ``outputs`` (N,...) are those of whole images."""
        return {}

    def chosen(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        """The class (N,) that outputs decide for, ``NONE`` for none; to be compared with the class that was asked."""
        raise NotImplementedError

    def decided(self, slice_: Slice, outputs: NDArray[np.float32], target: "Target") -> Answers | None:
        """What outputs (N,...) decide about a slice and its target; None for a task in which nothing is decided."""
        raise NotImplementedError

    def divergence(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """How far two versions' outputs (N,...) are apart: a mean of at least 0 that grows with noise on weights."""
        raise NotImplementedError

    def churn(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """The share of decisions, 0..1, that two versions' outputs (N,...) make otherwise; 0 where none are made."""
        raise NotImplementedError


TASKS = Plugins("task", "attrail_explainers.tasks", exported="TASK")


def task_names() -> list[str]:
    """Return the names of all tasks, sorted, as ``explain`` and ``[task]`` take them.

    They are the names of the files of ``tasks/``::

        "multi_label" in task_names()
    """
    return TASKS.names()


def make_task(name: str = SINGLE_LABEL, parameters: Mapping[str, Any] | None = None) -> Task:
    """Make the task ``name`` with ``parameters``, a frozen dataclass whose fields are all of its parameters.

    Raises UnknownNameError for a name that there is none of, ConfigError for a parameter that the task does not have or
    that cannot have this value::

        brightness = make_task("regression", {"tolerance": 0.1, "output": "value"})
    """
    made: Task = TASKS.make(name, parameters)
    return made


@dataclass(frozen=True, eq=False)
class Target:
    """What is explained: one number for each of N rows, the same of every version.

    ``values`` holds what the ``task`` asks, N rows under each name. Of one row, ``score`` gives as many numbers as
    there are outputs.
    """

    task: Task
    values: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(next(iter(self.values.values())))

    def rows(self, rows: Rows) -> "Target":
        """The target of some rows."""
        return Target(self.task, {name: each[rows] for name, each in self.values.items()})

    def row(self, row: int) -> "Target":
        """The target of one row."""
        return self.rows(slice(row, row + 1))

    def score(self, outputs: torch.Tensor) -> torch.Tensor:
        """The number (N,) that is explained, in double precision, of outputs (N,...) as ``WorkingCopy.call`` has."""
        return self.task.score(outputs, self._on(outputs))

    def slope(self, outputs: torch.Tensor) -> torch.Tensor:
        """The number (N,) whose gradient gradient methods take."""
        return self.task.slope(outputs, self._on(outputs))

    def chosen(self, outputs: torch.Tensor) -> torch.Tensor:
        """The class (N,) that outputs decide for, -1 for none."""
        return self.task.chosen(outputs, self._on(outputs))

    def unanswered(self, outputs: torch.Tensor) -> dict[int, str]:
        """Rows that have no map, and why."""
        return self.task.unanswered(outputs, self._on(outputs))

    @property
    def classes(self) -> NDArray[np.int64]:
        """The class (N,) that each row is about, -1 where it is about none."""
        found = self.values.get("class")
        return np.full(len(self), NONE, dtype=np.int64) if found is None else np.asarray(found, dtype=np.int64)

    @property
    def digest(self) -> str | None:
        """Digest of task and values, beside the classes; None for classes of a single label, which say it all."""
        if TASKS.name_of(self.task) == SINGLE_LABEL:
            return None
        parameters = {name: each for name, each in TASKS.parameters_of(self.task).items() if name != "output"}
        facts = {"task": TASKS.name_of(self.task), "parameters": parameters}
        return digest_of(facts | {"values": digest_of_arrays(sorted(self.values.items()))})

    @property
    def identity(self) -> list[int] | str:
        """What tells targets apart in keys: classes of a single label, else the digest."""
        return self.classes.tolist() if self.digest is None else self.digest

    def require(self, count: int, label: str) -> None:
        """Raise ConfigError, which says it, for what a model with so many answers cannot be asked."""
        flaw = self.task.flaw(self.values, count)
        if flaw is not None:
            raise ConfigError(f"{flaw}: model {label} has {count} {self.task.answers}, 0 and up")

    def _on(self, outputs: torch.Tensor) -> Asked:
        def there(values: NDArray[Any]) -> torch.Tensor:
            found = torch.from_numpy(np.array(values))
            return (found.expand(len(outputs), *found.shape[1:]) if len(self) == 1 else found).to(outputs.device)

        return {name: there(each) for name, each in self.values.items()}


def class_indices(targets: Any, what: str = "targets") -> NDArray[np.int64]:
    """Targets (N,) as an array; ConfigError unless they are N whole numbers: 1.7 is no class."""
    classes = np.asarray(targets.detach().cpu() if isinstance(targets, torch.Tensor) else targets)
    if classes.size and classes.dtype.kind not in "iu":
        raise ConfigError(f"{what} must be class indices, which are whole numbers, not {classes.flat[0]!r}")
    if classes.ndim != 1:
        raise ConfigError(f"{what} must be one class index for each image, got an array of shape {classes.shape}")
    return classes.astype(np.int64)


def tensors_of(returned: Any, name: str = "") -> dict[str, torch.Tensor]:
    """Every tensor in what a model returned, by where it is: "" for a lone one, "logits", "1", "heads.1"."""
    if isinstance(returned, torch.Tensor):
        return {name: returned}
    if isinstance(returned, Mapping):
        inner: dict[str, Any] = {str(key): each for key, each in returned.items()}
    elif dataclasses.is_dataclass(returned) and not isinstance(returned, type):
        inner = {each.name: getattr(returned, each.name) for each in dataclasses.fields(returned)}
    elif isinstance(returned, tuple | list):
        names = getattr(returned, "_fields", range(len(returned)))
        inner = {str(key): each for key, each in zip(names, returned, strict=True)}
    else:
        return {}
    found: dict[str, torch.Tensor] = {}
    for key, each in inner.items():
        found |= tensors_of(each, f"{name}.{key}" if name else key)
    return found
