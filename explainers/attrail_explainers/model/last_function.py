"""The function that a model ends in, such as softmax, seen where torch computes it, and what went into it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from attrail_explainers.model.operations import operation

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
SHARES = frozenset({"softmax", "sigmoid"})  # whose numbers some models multiply: percent, or a temperature put too late
# Same numbers in another shape, type or place: done to the logits too.
PASSING = frozenset(
    """to type float double half bfloat16 to_copy clone contiguous alias detach view reshape flatten squeeze unsqueeze
    getitem select slice lift_fresh_copy""".split()  # noqa: SIM905 - a list of names, not of lines
)
GRID = 4  # dimensions of (N,C,h,w)
CERTAIN = 1e-3  # a probability this close to 1, or to 0, says little of the logits


@dataclass(frozen=True, eq=False)
class End:
    """A tensor that a model made: by which ``function``, and what went into it where that is one of ``FUNCTIONS``.

    ``factor`` is what probabilities were multiplied by since, as by 100 for percent. ``composed`` as in OutputScale.
    """

    output: torch.Tensor
    function: str
    logits: torch.Tensor | None = None
    composed: float | None = None
    factor: float = 1.0

    def made(self, outputs: torch.Tensor, precision: float) -> bool:
        """Whether outputs (N,K) are the factor times what the function makes of the logits over their classes."""
        return self.logits is not None and _makes(self.function, self.logits, outputs / self.factor, precision)


class LastFunction(TorchFunctionMode):
    """Follows a softmax or sigmoid, whatever module or graph calls it, to what the model returns.

    ``everything`` keeps other functions' outputs too, for looking once: they stay in memory. ``rows`` keeps those that
    are one row of numbers for each image, which are small. ``grids`` follows the last function of grids (N,C,h,w), too.
    """

    def __init__(self, *, everything: bool = False, rows: bool = False, grids: bool = False) -> None:
        super().__init__()
        self._everything, self._grids, self._ends = everything, grids, list[End]()
        self._keeps_rows, self._rows = everything or rows, list[torch.Tensor]()

    def end_of(self, output: Any) -> End | None:
        """How a tensor was made, None when that was not seen."""
        return next((end for end in reversed(self._ends) if end.output is output), None)

    def last(self, outputs: torch.Tensor, precision: float) -> End | None:
        """How outputs (N,K) were made: by one of ``FUNCTIONS`` where that can be seen; ``precision`` as in scale_of."""
        end, precision = self.end_of(outputs), precision_of(outputs, precision)
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
        kept = any(row is source for row in self._rows)
        if overwrites and isinstance(source, torch.Tensor) and (name in FUNCTIONS or kept):
            taken = source.clone()
            self._rows = [taken if row is source else row for row in self._rows]
        output = func(*args, **kwargs)
        if isinstance(output, torch.Tensor):
            if (multiplied := self._multiplied(name, output, args)) is not None:
                self._ends.append(multiplied)
            else:
                self._follow(func, name, taken, output, args[1:], kwargs)
            if self._keeps_rows and output.is_floating_point() and _one_row_each(output):
                self._rows.append(output)
        return output

    def _multiplied(self, name: str, output: torch.Tensor, args: tuple[Any, ...]) -> End | None:
        """How probabilities times a number above 0 were made; None for what is something else."""
        if len(args) < 2 or name not in ("mul", "div"):
            return None
        for source, other in (args[:2], args[1::-1])[: 2 if name == "mul" else 1]:
            before = self.end_of(source)
            if before is not None and before.function in SHARES and _is_one_number(other) and other > 0:
                number = 1 / float(other) if name == "div" else float(other)
                return replace(before, output=output, factor=before.factor * number)
        return None

    def _follow(
        self, func: Any, name: str, taken: Any, output: torch.Tensor, others: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        before = self.end_of(taken)
        if name in FUNCTIONS:
            grid = self._grids and output.ndim == GRID and not _one_row_each(output)
            if grid:  # those before it were no end, and are large
                self._ends = [each for each in self._ends if _one_row_each(each.output)]
            if self._everything or grid or _one_row_each(output):  # attention's is no model's end, and large
                self._ends.append(End(output, name, taken))
        elif before is not None and name in PASSING:
            others_ = {key: value for key, value in kwargs.items() if key != "input"}
            logits = None if before.logits is None else func(before.logits, *others, **others_)
            self._ends.append(replace(before, output=output, logits=logits))
        elif before is not None and before.factor == 1 and (before.function, name) in TURNED:
            self._ends.append(End(output, TURNED[before.function, name], before.logits))
        elif self._everything:
            self._ends.append(End(output, name))


def precision_of(outputs: torch.Tensor, precision: float) -> float:
    """Machine epsilon of outputs (N,K): the model's own, or that of a coarser type which holds all of them exactly."""
    coarser = [each for each in (torch.float16, torch.bfloat16) if torch.equal(outputs.to(each).to(outputs), outputs)]
    return max([precision, *(torch.finfo(each).eps for each in coarser)])


def are_shares(rows: torch.Tensor) -> bool:
    """Whether all numbers (N,K) lie in 0..1."""
    return bool(((rows >= 0) & (rows <= 1)).all())


def _certain(outputs: torch.Tensor) -> bool:
    """Whether outputs (N,K) are certain of an image: these probabilities, 0 and 1, come of any large logits."""
    shares = outputs if are_shares(outputs) else outputs.exp()
    shares = torch.cat([shares, 1 - shares], dim=1) if outputs.shape[1] == 1 else shares
    return bool((shares.max(dim=1).values > 1 - CERTAIN).any())


def _makes(function: str, logits: torch.Tensor, outputs: torch.Tensor, precision: float) -> bool:
    """Whether a function makes outputs (N,K), (N,) or (N,C,h,w) of the first N of the logits, which fill a batch up."""
    if outputs.ndim == GRID:
        grid = logits[: len(outputs)] if logits.ndim == GRID else logits
        alike = function in FUNCTIONS and grid.shape == outputs.shape
        return alike and torch.allclose(FUNCTIONS[function](grid.double()), outputs.double(), 1e-4, 16 * precision)
    rows = outputs.reshape(outputs.shape[:1].numel(), -1)
    if function not in FUNCTIONS or not _one_row_each(logits) or logits[:1].numel() != rows.shape[1]:
        return False
    made = FUNCTIONS[function](logits[: len(rows)].double().reshape(-1, rows.shape[1]))
    return made.shape == rows.shape and torch.allclose(made, rows.double(), rtol=1e-4, atol=16 * precision)


def _one_row_each(output: torch.Tensor) -> bool:
    return output.ndim > 0 and output.numel() == len(output) * max(output.shape[1:], default=1)


def _is_one_number(value: Any) -> bool:
    return value.numel() == 1 if isinstance(value, torch.Tensor) else isinstance(value, int | float)
