"""What a model's outputs are, found once for a model, and its logits: the one place where the two are told apart."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

import torch

from attrail_explainers.digest import seed_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model.last_function import End, LastFunction, are_shares, precision_of

Forward = Callable[[torch.Tensor], torch.Tensor]

UNBOUNDED = frozenset({"linear", "addmm", "matmul", "mm", "bmm", "baddbmm", "einsum", "conv2d", "convolution"})
SPREADS = (1.0, 1.0, 30.0, 30.0)  # of the noise: numbers that stay in 0..1 at every size are no logits


class Outputs(StrEnum):
    """What a model returns for an image."""

    LOGITS = "logits"
    LOG_PROBABILITIES = "log-probabilities"
    PROBABILITIES = "probabilities"
    LOGIT = "one logit"
    PROBABILITY = "one probability"
    LOG_PROBABILITY = "one log-probability"
    LABEL_LOGITS = "logits of labels"
    LABEL_PROBABILITIES = "probabilities of labels"
    LABEL_LOG_PROBABILITIES = "log-probabilities of labels"
    VALUES = "values"
    EMBEDDING = "embeddings"
    BOXES = "boxes with objectness and class scores"


AS_THEY_ARE = frozenset({Outputs.LOGITS, Outputs.LABEL_LOGITS, Outputs.VALUES, Outputs.EMBEDDING, Outputs.BOXES})
BY_FUNCTION = {
    "softmax": Outputs.PROBABILITIES,
    "log_softmax": Outputs.LOG_PROBABILITIES,
    "sigmoid": Outputs.PROBABILITY,
    "log_sigmoid": Outputs.LOG_PROBABILITY,
}

LABELS_BY_FUNCTION = {"sigmoid": Outputs.LABEL_PROBABILITIES, "log_sigmoid": Outputs.LABEL_LOG_PROBABILITIES}


@dataclass(frozen=True)
class OutputScale:
    """What a model's ``outputs`` are, and how its logits (N,classes) follow from them.

    With a ``function`` the model ends in it, and what went into it are the logits: the same as those of the model
    without it, gradients included; ``places`` says that it makes grids (N,C,h,w). Where the model works the function
    out by others, or does more to what it gives, the first numbers on the way of which the function makes the outputs
    are the logits; ``composed`` is then how far these are rounded (machine epsilon). Else probabilities give their
    logarithms, which are logits less a number for each image: log odds are the same, gradients are those of the
    log-probability. One output is the log odds z of class 1 against class 0, with the logits -z/2 and z/2. Each
    probability of a label gives its log odds. Values and embeddings are taken as they are.
    """

    outputs: Outputs = Outputs.LOGITS
    function: str | None = None
    composed: float | None = None
    places: bool = False

    def __str__(self) -> str:
        """The scale in words, for records and reports."""
        if self.outputs in AS_THEY_ARE:
            return str(self.outputs)
        if self.function is not None:
            return f"{self.outputs}, taken before {self.function}, as logits"
        if self.outputs is Outputs.PROBABILITIES:
            return f"{self.outputs}, their logarithms taken as logits"
        if self.outputs is Outputs.LABEL_PROBABILITIES:
            return f"{self.outputs}, their log odds taken as logits"
        if self.outputs is Outputs.PROBABILITY:
            return f"{self.outputs} of class 1, its log odds taken as the logit"
        return f"{self.outputs}, of class 1 against class 0" if self.single else f"{self.outputs}, taken as logits"

    @property
    def single(self) -> bool:
        """Whether one number stands for two classes."""
        return self.outputs in (Outputs.LOGIT, Outputs.PROBABILITY, Outputs.LOG_PROBABILITY)

    def values(self, forward: Forward, images: torch.Tensor, label: str) -> torch.Tensor:
        """What the model returns, or what went into its last function, for images (N,C,H,W).

        Raises UnsupportedModelError when it does not end in that function every time.
        """
        if self.function is None:
            return forward(images)
        with LastFunction(rows=self.composed is not None, grids=self.places) as tape:
            outputs = forward(images)
        composed = self.composed
        end = tape.end_of(outputs) if composed is None else tape.composed(outputs, [self.function], composed)
        if end is None or end.function != self.function or end.logits is None:
            raise UnsupportedModelError(
                f"model {label} ends in {self.function} for some images and not for others, or rounds what that gives: "
                "log it with its logits as outputs"
            )
        logits: torch.Tensor = end.logits.reshape(-1)[: outputs.numel()].reshape(outputs.shape)
        return logits

    def logits(self, values: torch.Tensor, label: str) -> torch.Tensor:
        """Logits (N,classes) from ``values`` (N,outputs); UnsupportedModelError where a probability is exactly 0.

        Of a label's probability the log odds are lost at exactly 1, too.
        """
        if self.function is None and self.outputs in (Outputs.PROBABILITY, Outputs.LABEL_PROBABILITIES):
            if bool(((values <= 0) | (values >= 1)).any()):
                raise UnsupportedModelError(
                    f"model {label} returns probabilities, some of them rounded to 0 or 1, so that logits are lost: "
                    "log it without the sigmoid that turns its logits into probabilities"
                )
            values = values.logit()
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


def scale_of(
    label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
) -> OutputScale:
    """What ``outputs`` (N,K) of a model are: by the ``end`` of its forward pass, else by their numbers.

    ``more`` gives the outputs for noise: probabilities are those for any image, logits may look so for one.
    ``precision`` is the machine epsilon of the model's numbers. UnsupportedModelError for outputs that are several
    sigmoids, numbers in 0..1 that could be logits or not, or probabilities times a number that cannot be traced.
    """
    precision = precision_of(outputs, precision)
    if end is not None and end.made(outputs, precision):
        return _by_function(label, end, outputs.shape[1])
    single = outputs.shape[1] == 1
    rows = outputs.double()
    seen = (_normalised(rows, precision), _normalised(rows.exp(), precision), are_shares(rows), (rows >= 0).all())
    if not any(seen):
        return OutputScale(Outputs.LOGIT if single else Outputs.LOGITS)
    rows = torch.cat([rows, more().double()])
    rows = rows[rows.isfinite().all(dim=1)]
    if not single and are_shares(rows) and _normalised(rows, precision):
        return OutputScale(Outputs.PROBABILITIES)
    if not single and _normalised(rows.exp(), precision):
        return OutputScale(Outputs.LOG_PROBABILITIES)
    bounded = end is None or end.function not in UNBOUNDED
    if are_shares(rows) and bounded:
        raise UnsupportedModelError(
            f"model {label} returns numbers between 0 and 1 for any image, which do not sum to 1: attrail cannot tell "
            "whether they are logits; log the model with its logits as outputs"
        )
    if not single and bounded and _is_one_sum(rows, precision):
        raise UnsupportedModelError(
            f"model {label} returns numbers of at least 0 that sum to {float(rows[0].sum()):.4g} for any image, as "
            "probabilities times a constant do: log the model with its logits as outputs"
        )
    return OutputScale(Outputs.LOGIT if single else Outputs.LOGITS)


def binary_scale_of(
    label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
) -> OutputScale:
    """What the one output (N,1) of a model of two classes is; numbers in 0..1 for any image are probabilities."""
    if outputs.shape[1] != 1:
        raise UnsupportedModelError(
            f"model {label} returns {outputs.shape[1]} outputs, task binary is about one, the logit or the probability "
            "of class 1: leave the task out for a model that chooses one class of several"
        )
    precision = precision_of(outputs, precision)
    if end is not None and end.made(outputs, precision):
        return _by_function(label, end, 1)
    return OutputScale(Outputs.PROBABILITY if _always_shares(outputs, end, more) else Outputs.LOGIT)


def label_scale_of(
    label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
) -> OutputScale:
    """What the outputs (N,labels) of a model that says of each label whether it is there are.

    UnsupportedModelError for shares of one whole: such a model chooses one class of several.
    """
    precision = precision_of(outputs, precision)
    if end is not None and end.made(outputs, precision) and end.function in LABELS_BY_FUNCTION:
        return OutputScale(LABELS_BY_FUNCTION[end.function], end.function, end.composed)
    several, rows = outputs.shape[1] > 1, outputs.double()
    if several and (_normalised(rows, precision) or _normalised(rows.exp(), precision)):
        rows = torch.cat([rows, more().double()])
        if _normalised(rows, precision) or _normalised(rows.exp(), precision):
            raise UnsupportedModelError(
                f"model {label} returns probabilities that sum to 1, so that a label that comes takes from the others: "
                "leave the task out for a model that chooses one class of several, or log it with a logit of each"
            )
    return OutputScale(Outputs.LABEL_PROBABILITIES if _always_shares(outputs, end, more) else Outputs.LABEL_LOGITS)


def place_scale_of(
    label: str,
    outputs: torch.Tensor,
    end: End | None,
    more: Callable[[], torch.Tensor],
    precision: float,
    *,
    overlapping: bool = False,
) -> OutputScale:
    """What the outputs (N,C,h,w) of a model that answers at each place are: what one place's row of numbers is.

    Of several columns that are ``overlapping`` each says whether its class is there, else one class is chosen of them;
    one column is the log odds of class 1. UnsupportedModelError for what is neither, and for the other of the two.
    """
    several = outputs.shape[1] > 1
    if end is not None and end.made(outputs, precision_of(outputs, precision)):
        if several and (end.function in LABELS_BY_FUNCTION) is not overlapping:
            what, where = ("true", "each may be there") if not overlapping else ("false", "one of them is chosen")
            raise UnsupportedModelError(
                f"model {label} ends in {end.function} over {outputs.shape[1]} classes at each place: {where}; set the "
                f"task's overlapping = {what}"
            )
        logits = None if end.logits is None else _of_places(end.logits[: len(outputs)])
        end = replace(end, output=_of_places(end.output[: len(outputs)]), logits=logits)
    find = binary_scale_of if not several else label_scale_of if overlapping else scale_of
    found = find(label, _of_places(outputs), end, lambda: _of_places(more()), precision)
    return replace(found, places=True)


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
        f"model {label} ends in a sigmoid for each of {columns} labels: where it says of each whether it is there, set "
        "task multi_label; where it chooses one class of several, log it with the logits as its outputs"
    )


def _of_places(outputs: torch.Tensor) -> torch.Tensor:
    """Outputs (N,C,h,w) as a row (N*h*w,C) for each place."""
    return outputs.movedim(1, -1).reshape(-1, outputs.shape[1])


def _always_shares(outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor]) -> bool:
    """Whether outputs (N,K) lie in 0..1 for any image, and no linear layer gave them."""
    bounded = end is None or end.function not in UNBOUNDED
    return bounded and are_shares(outputs) and are_shares(more())


def _normalised(rows: torch.Tensor, precision: float) -> bool:
    """Whether every row (N,K) sums to 1, up to rounding."""
    return bool(((rows.sum(dim=1) - 1).abs() <= 1e-5 + 16 * precision).all())


def _is_one_sum(rows: torch.Tensor, precision: float) -> bool:
    """Whether several rows (N,K) of numbers of at least 0 have one sum above 0, up to rounding."""
    sums = rows.sum(dim=1)
    alike = (sums - sums.mean()).abs() <= (1e-5 + 16 * precision) * sums.mean()
    return len(rows) > 1 and bool((rows >= 0).all() and sums.mean() > 0 and alike.all())
