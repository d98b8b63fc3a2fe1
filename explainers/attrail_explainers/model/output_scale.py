"""What a model's outputs are, found once for a model, and its logits: the one place where the two are told apart."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from attrail_explainers.digest import seed_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model.operations import operation

Forward = Callable[[torch.Tensor], Any]

# What may end a model, as a function of its logits (N,classes).
FUNCTIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "softmax": lambda logits: logits.softmax(dim=1),
    "log_softmax": lambda logits: logits.log_softmax(dim=1),
    "sigmoid": torch.sigmoid,
    "log_sigmoid": functional.logsigmoid,
}
NAMES = {"special_softmax": "softmax", "special_log_softmax": "log_softmax", "special_expit": "sigmoid"}
TURNED = {  # what a function of a function's output comes to
    ("softmax", "log"): "log_softmax",
    ("sigmoid", "log"): "log_sigmoid",
    ("log_softmax", "exp"): "softmax",
    ("log_sigmoid", "exp"): "sigmoid",
}
# Same numbers in another shape, type or place: done to the logits too.
PASSING = frozenset(
    """to type float double half bfloat16 to_copy clone contiguous alias detach view reshape flatten squeeze unsqueeze
    getitem select slice lift_fresh_copy""".split()  # noqa: SIM905 - a list of names, not of lines
)
UNBOUNDED = frozenset({"linear", "addmm", "matmul", "mm", "bmm", "baddbmm", "einsum", "conv2d", "convolution"})

CERTAIN = 1e-3  # a probability this close to 1, or to 0, says little of the logits

SPREADS = (1.0, 1.0, 30.0, 30.0)  # of the noise: numbers that stay in 0..1 at every size are no logits


class Outputs(StrEnum):
    """What a model returns for an image."""

    LOGITS = "logits"
    LOG_PROBABILITIES = "log-probabilities"
    PROBABILITIES = "probabilities"
    LOGIT = "one logit"
    PROBABILITY = "one probability"
    LOG_PROBABILITY = "one log-probability"


BY_FUNCTION = {
    "softmax": Outputs.PROBABILITIES,
    "log_softmax": Outputs.LOG_PROBABILITIES,
    "sigmoid": Outputs.PROBABILITY,
    "log_sigmoid": Outputs.LOG_PROBABILITY,
}


@dataclass(frozen=True)
class OutputScale:
    """What a model's ``outputs`` are, and how its logits (N,classes) follow from them.

    With a ``function`` the model ends in it, and what went into it are the logits: the same as those of the model
    without it, gradients included. Where the model works the function out by others, or does more to what it gives, the
    first numbers on the way of which the function makes the outputs are the logits; ``composed`` is then how far these
    are rounded (machine epsilon). Else probabilities give their logarithms, which are logits less a number for each
    image: log odds are the same, gradients are those of the log-probability. One output is the log odds z of class 1
    against class 0, with the logits -z/2 and z/2.
    """

    outputs: Outputs = Outputs.LOGITS
    function: str | None = None
    composed: float | None = None

    def __str__(self) -> str:
        """As records and reports say it."""
        if self.outputs is Outputs.LOGITS:
            return str(self.outputs)
        if self.function is not None:
            return f"{self.outputs}, taken before {self.function}, as logits"
        if self.outputs is Outputs.PROBABILITIES:
            return f"{self.outputs}, their logarithms taken as logits"
        return f"{self.outputs}, of class 1 against class 0" if self.single else f"{self.outputs}, taken as logits"

    @property
    def single(self) -> bool:
        """Whether one number stands for two classes."""
        return self.outputs in (Outputs.LOGIT, Outputs.PROBABILITY, Outputs.LOG_PROBABILITY)

    def values(self, forward: Forward, images: torch.Tensor, label: str) -> Any:
        """What the model returns, or what went into its last function, for images (N,C,H,W).

        Raises UnsupportedModelError when it does not end in that function every time.
        """
        if self.function is None:
            return forward(images)
        with LastFunction(rows=self.composed is not None) as tape:
            outputs = forward(images)
        composed = self.composed
        end = tape.end_of(outputs) if composed is None else tape.composed(outputs, [self.function], composed)
        if end is None or end.function != self.function or end.logits is None:
            raise UnsupportedModelError(
                f"model {label} ends in {self.function} for some images and not for others, or rounds what that gives: "
                "log it with its logits as outputs"
            )
        return end.logits.reshape(-1)[: outputs.numel()].reshape(outputs.shape)

    def logits(self, values: torch.Tensor, label: str) -> torch.Tensor:
        """Logits (N,classes) from ``values`` (N,outputs); UnsupportedModelError where a probability is exactly 0."""
        if self.single:
            return torch.cat([-values / 2, values / 2], dim=1)
        if self.outputs is Outputs.PROBABILITIES and self.function is None:
            if bool((values <= 0).any()):
                raise UnsupportedModelError(
                    f"model {label} returns probabilities, and some are rounded to 0, so that its logits are lost: "
                    "log it without what turns its logits into probabilities"
                )
            return values.log()
        return values


@dataclass(frozen=True, eq=False)
class End:
    """A tensor that a model made: by which ``function``, and what went into it where that is one of ``FUNCTIONS``.

    ``composed`` as in OutputScale.
    """

    output: torch.Tensor
    function: str
    logits: torch.Tensor | None = None
    composed: float | None = None

    def made(self, outputs: torch.Tensor, precision: float) -> bool:
        """Whether outputs (N,K) are what the function makes of the logits: over their classes, and nothing after it."""
        return self.logits is not None and _makes(self.function, self.logits, outputs, precision)


class LastFunction(TorchFunctionMode):
    """Follows a softmax or sigmoid, whatever module or graph calls it, to what the model returns.

    ``everything`` keeps other functions' outputs too, for looking once: they stay in memory. ``rows`` keeps those that
    are one row of numbers for each image, which are small.
    """

    def __init__(self, *, everything: bool = False, rows: bool = False) -> None:
        super().__init__()
        self._everything, self._ends = everything, list[End]()
        self._keeps_rows, self._rows = everything or rows, list[torch.Tensor]()

    def end_of(self, output: Any) -> End | None:
        """How a tensor was made, None when that was not seen."""
        return next((end for end in reversed(self._ends) if end.output is output), None)

    def last(self, outputs: torch.Tensor, precision: float) -> End | None:
        """How outputs (N,K) were made: by one of ``FUNCTIONS`` where that can be seen; ``precision`` as in scale_of."""
        end, precision = self.end_of(outputs), _precision(outputs, precision)
        if (end is not None and end.made(outputs, precision)) or _certain(outputs):
            return end
        return self.composed(outputs, FUNCTIONS, precision) or end

    def composed(self, outputs: Any, functions: Iterable[str], precision: float) -> End | None:
        """The first rows of which one of the functions makes the outputs, whatever came in between; None without any.

        The first, because what is taken from all logits alike on the way, such as their largest, is no part of them.
        """
        for function in functions:
            for rows in self._rows:
                if _makes(function, rows, outputs, precision):
                    return End(outputs, function, rows, composed=precision)
        return None

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name, overwrites = operation(func, kwargs)
        name = NAMES.get(name, name)
        source = args[0] if args else kwargs.get("input")
        taken = source
        if overwrites and isinstance(source, torch.Tensor) and (name in FUNCTIONS or self._has(source)):
            taken = source.clone()
            self._rows = [taken if each is source else each for each in self._rows]
        output = func(*args, **kwargs)
        if isinstance(output, torch.Tensor):
            self._follow(func, name, taken, output, args[1:], kwargs)
            if self._keeps_rows and output.is_floating_point() and _one_row_each(output):
                self._rows.append(output)
        return output

    def _has(self, tensor: torch.Tensor) -> bool:
        return any(each is tensor for each in self._rows)

    def _follow(
        self, func: Any, name: str, taken: Any, output: torch.Tensor, others: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        before = self.end_of(taken)
        if name in FUNCTIONS:
            if self._everything or _one_row_each(output):  # attention's is no model's end, and large
                self._ends.append(End(output, name, taken))
        elif before is not None and name in PASSING:
            others_ = {key: value for key, value in kwargs.items() if key != "input"}
            logits = None if before.logits is None else func(before.logits, *others, **others_)
            self._ends.append(End(output, before.function, logits))
        elif before is not None and (before.function, name) in TURNED:
            self._ends.append(End(output, TURNED[before.function, name], before.logits))
        elif self._everything:
            self._ends.append(End(output, name))


def scale_of(
    label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
) -> OutputScale:
    """What ``outputs`` (N,K) of a model are: by the ``end`` of its forward pass, else by their numbers.

    ``more`` gives the outputs for noise: probabilities are those for any image, logits may look so for one.
    ``precision`` is the machine epsilon of the model's numbers. UnsupportedModelError for outputs that are several
    sigmoids, or numbers in 0..1 that could be logits or not.
    """
    precision = _precision(outputs, precision)
    if end is not None and end.made(outputs, precision):
        return _by_function(label, end, outputs.shape[1])
    single = outputs.shape[1] == 1
    rows = outputs.double()
    if not _normalised(rows, precision) and not _normalised(rows.exp(), precision) and not _shares(rows):
        return OutputScale(Outputs.LOGIT if single else Outputs.LOGITS)
    rows = torch.cat([rows, more().double()])
    rows = rows[rows.isfinite().all(dim=1)]
    if not single and _shares(rows) and _normalised(rows, precision):
        return OutputScale(Outputs.PROBABILITIES)
    if not single and _normalised(rows.exp(), precision):
        return OutputScale(Outputs.LOG_PROBABILITIES)
    if _shares(rows) and (end is None or end.function not in UNBOUNDED):
        raise UnsupportedModelError(
            f"model {label} returns numbers between 0 and 1 for any image, which do not sum to 1: attrail cannot tell "
            "whether they are logits; log the model with its logits as outputs"
        )
    return OutputScale(Outputs.LOGIT if single else Outputs.LOGITS)


def noise_like(images: torch.Tensor) -> torch.Tensor:
    """Noise (4,C,H,W), the same for all images (N,C,H,W) of a size, of small and of large numbers."""
    generator = torch.Generator().manual_seed(seed_of("outputs") % 2**63)
    drawn = torch.randn(len(SPREADS), *images.shape[1:], generator=generator)
    return (drawn * torch.tensor(SPREADS)[:, None, None, None]).to(images)


def _by_function(label: str, end: End, columns: int) -> OutputScale:
    """The scale of a model that ends in a function of ``FUNCTIONS`` with so many outputs."""
    function = end.function
    found = OutputScale(BY_FUNCTION[function], function, end.composed)
    if found.single == (columns == 1):
        return found
    if columns == 1:
        raise UnsupportedModelError(
            f"model {label} has one output and ends in {function}, which makes the same of any number: log it with the "
            "logit as its output, or with a sigmoid"
        )
    raise UnsupportedModelError(
        f"model {label} ends in a sigmoid for each of {columns} labels: attrail explains models that choose one class "
        "of several; where that is what it does, log it with the logits as its outputs"
    )


def _certain(outputs: torch.Tensor) -> bool:
    """Whether outputs (N,K) are certain of an image: these probabilities, 0 and 1, come of any large logits."""
    shares = outputs if _shares(outputs) else outputs.exp()
    shares = torch.cat([shares, 1 - shares], dim=1) if outputs.shape[1] == 1 else shares
    return bool((shares.max(dim=1).values > 1 - CERTAIN).any())


def _precision(outputs: torch.Tensor, precision: float) -> float:
    """Machine epsilon of outputs (N,K): the model's own, or that of a coarser type which holds all of them exactly."""
    coarser = [each for each in (torch.float16, torch.bfloat16) if torch.equal(outputs.to(each).to(outputs), outputs)]
    return max([precision, *(torch.finfo(each).eps for each in coarser)])


def _makes(function: str, logits: torch.Tensor, outputs: torch.Tensor, precision: float) -> bool:
    """Whether a function makes outputs (N,K) or (N,) of the first N rows of logits, which fill a batch up."""
    rows = outputs.reshape(outputs.shape[:1].numel(), -1)
    if function not in FUNCTIONS or not _one_row_each(logits) or logits[:1].numel() != rows.shape[1]:
        return False
    made = FUNCTIONS[function](logits[: len(rows)].double().reshape(-1, rows.shape[1]))
    return made.shape == rows.shape and torch.allclose(made, rows.double(), rtol=1e-4, atol=16 * precision)


def _one_row_each(output: torch.Tensor) -> bool:
    return output.ndim > 0 and output.numel() == len(output) * max(output.shape[1:], default=1)


def _shares(rows: torch.Tensor) -> bool:
    """Whether all numbers (N,K) lie in 0..1."""
    return bool(((rows >= 0) & (rows <= 1)).all())


def _normalised(rows: torch.Tensor, precision: float) -> bool:
    """Whether every row (N,K) sums to 1, up to rounding."""
    return bool(((rows.sum(dim=1) - 1).abs() <= 1e-5 + 16 * precision).all())
