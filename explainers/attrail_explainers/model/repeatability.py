"""Whether a model answers an image the same way whenever it is asked: no map can be compared that no second call gives.

Exports keep the mode they were logged in, dropout and batch statistics included; some modules draw or look at the other
images of a batch in any mode.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model.output_scale import noise_like

Call = Callable[[torch.Tensor], torch.Tensor]
Batch = tuple[torch.Tensor, slice]  # images (N,C,H,W), and the rows of the one that is asked about

# Share of the largest output that an answer may move by. torch.testing takes 1.3e-6 (float32), 1e-3 (float16) and
# 1.6e-2 (bfloat16) for honest rounding of one operator; whole networks add it up. Dropout moves outputs by percents.
TOLERANCE = 1e-4
ROUNDINGS = 8  # of the model's own dtype, where these are more
EXACT = torch.finfo(torch.float64).eps
FIRST, EVERY = slice(1), slice(None)
AGAIN = 32  # times a model that draws is asked: one that drops a layer in 20 calls is found out with 96 %

MODES = ("train", "training", "dropout_p")  # arguments of operators that do otherwise in training
SHARES = ("p", "dropout", "dropout_p")  # and what they drop

DRAWS = "draws random numbers, such as dropout that is always on, or keeps something from call to call"
LOOKS = (
    "looks at the whole batch, as batch statistics in training mode and dynamic quantization do (then explain the "
    "model from before it was quantized)"
)
WAY_OUT = "call model.eval() before log_model, let forward follow self.training, and log the model again"


def require_no_training(program: ExportedProgram, label: str) -> None:
    """Raise UnsupportedModelError, naming them, if operators of an export draw at random or are in training mode."""
    modules = [each for each in program.graph_module.modules() if isinstance(each, torch.fx.GraphModule)]
    found = sorted({name for module in modules for node in module.graph.nodes for name in _in_training(node)})
    if found:
        raise UnsupportedModelError(
            f"model {label} answers differently whenever it is asked: its graph holds {' and '.join(found)}; {WAY_OUT}"
        )


def require_repeatable(
    label: str,
    call: Call,
    exactly: Call,
    images: torch.Tensor,
    eps: float,
    buffers: Callable[[], Iterable[torch.Tensor]],
) -> None:
    """Raise UnsupportedModelError when a model answers otherwise the second time, or beside another image.

    It is asked about an image (1,C,H,W) twice with noise beside it, and then in the batches of ``require_alike``: once
    behind the noise, and once alone. ``call`` gives the outputs (N,classes) of images on their device, ``eps`` is the
    spacing of the model's own numbers. A model that draws, or changes its ``buffers`` as it answers, is asked ``AGAIN``
    times more.
    """
    pair = torch.cat([images[:1], noise_like(images)[:1]])
    with torch.inference_mode():
        first, before = call(pair), _moving(images.device, buffers())
        again = call(pair)
        more = 0 if _same(before, _moving(images.device, buffers())) else AGAIN
        others = [again, *(call(pair) for _ in range(more))]
    found = _Movement.of(first, others)
    if found.is_more_than(eps):
        raise found.refusal(label, "when asked twice", DRAWS)
    require_alike(label, call, exactly, [(pair[:1], FIRST), (pair, FIRST), (pair.flip(0), slice(1, 2))], eps)


def require_alike(label: str, call: Call, exactly: Call, batches: Sequence[Batch], eps: float) -> None:
    """Raise UnsupportedModelError when an image's answer (1,classes) is another in other batches.

    Kernels choose their order of summation by the batch, and some networks make much of that rounding: of EfficientNet
    v2 with random weights, outputs of 1351 move by 1.7 in float32 and by 2e-9 in float64. So where answers move,
    ``exactly`` is asked the same in double precision, where rounding is next to nothing and another image's part is
    what it was. It raises UnsupportedModelError for a model that cannot be run so; then what was seen counts.
    """
    with torch.inference_mode():
        found = _Movement.between(call, batches)
        if not found.is_more_than(eps):
            return
        try:
            rounding = not _Movement.between(exactly, batches).is_more_than(EXACT)
        except UnsupportedModelError:
            rounding = False
    if not rounding:
        raise found.refusal(label, "with other images beside it", LOOKS)


@dataclass(frozen=True)
class _Movement:
    """How far answers to one image ``moved``, and how large they are at the ``largest``."""

    moved: float
    largest: float

    @classmethod
    def of(cls, first: torch.Tensor, others: Iterable[torch.Tensor]) -> "_Movement":
        moved = max(float((first - other).nan_to_num().abs().max()) for other in others)
        return cls(moved, float(first.nan_to_num().abs().max()))

    @classmethod
    def between(cls, call: Call, batches: Sequence[Batch]) -> "_Movement":
        first, *others = (call(images)[rows] for images, rows in batches)
        return cls.of(first, others)

    def is_more_than(self, eps: float) -> bool:
        """Whether it is more than a network's rounding of numbers with this spacing."""
        return self.moved > max(TOLERANCE, ROUNDINGS * eps) * self.largest

    def refusal(self, label: str, how: str, why: str) -> UnsupportedModelError:
        return UnsupportedModelError(
            f"model {label} answers an image differently {how} (outputs up to {self.largest:.3g} move by "
            f"{self.moved:.3g}): it {why}; {WAY_OUT}"
        )


def _moving(device: torch.device, buffers: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """What moves when a model draws, by torch, NumPy or Python, or keeps something: generators and buffers."""
    drawn = torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()
    numpy: Any = np.random.get_state(legacy=False)["state"]
    python = torch.tensor(random.getstate()[1])
    return [drawn, python, torch.tensor([*numpy["key"].tolist(), numpy["pos"]]), *(each.clone() for each in buffers)]


def _same(first: list[torch.Tensor], second: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def _in_training(node: torch.fx.Node) -> Iterator[str]:
    """What an operator does that answers must not depend on, for a message.

    Batch norm without running statistics is left to ``require_repeatable``: instance norm is made of it.
    """
    if not isinstance(node.target, torch._ops.OpOverload):
        return
    name, given = node.target._schema.name.partition("::")[2], _arguments(node, node.target)
    if any(each in given for each in MODES):
        draws = "lower" in given or any(given.get(each) for each in SHARES)
        trains = given.get("train", given.get("training")) is not False
        if trains and (draws or given.get("running_mean") is not None):
            yield f"{name.strip('_')} in training mode"
    elif torch.Tag.nondeterministic_seeded in node.target.tags and node.users:
        yield f"{name.strip('_')} (random numbers)"


def _arguments(node: torch.fx.Node, target: torch._ops.OpOverload) -> dict[str, Any]:
    """An operator's arguments by name, defaults included."""
    arguments = target._schema.arguments
    given = {each.name: each.default_value for each in arguments if each.has_default_value()}
    return given | {each.name: value for each, value in zip(arguments, node.args, strict=False)} | dict(node.kwargs)
