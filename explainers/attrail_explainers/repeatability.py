"""Whether a model answers an image the same way whenever it is asked: no map can be compared that no second call gives.

Exports keep the mode they were logged in, dropout and batch statistics included; some modules draw or look at the other
images of a batch in any mode.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.export import ExportedProgram

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.output_scale import noise_like

Call = Callable[[torch.Tensor], torch.Tensor]

# Share of the largest output that an answer may move by. torch.testing takes 1.3e-6 (float32), 1e-3 (float16) and
# 1.6e-2 (bfloat16) for honest rounding of one operator; whole networks add it up. Dropout moves outputs by percents.
TOLERANCE = 1e-4
ROUNDINGS = 8  # of the model's own dtype, where these are more
AGAIN = 32  # times a model that draws is asked: one that drops a layer in 20 calls is found out with 96 %

MODES = ("train", "training", "dropout_p")  # arguments of operators that do otherwise in training
SHARES = ("p", "dropout", "dropout_p")  # and what they drop

DRAWS = "draws random numbers, such as dropout that is always on, or keeps something from call to call"
LOOKS = "looks at the whole batch, as batch statistics in training mode and dynamic quantization do"
WAY_OUT = "call model.eval() before log_model, let forward follow self.training, and log the model again"


def require_no_training(program: ExportedProgram, label: str) -> None:
    """UnsupportedModelError names the operators of an export that draw random numbers or are in training mode."""
    modules = [each for each in program.graph_module.modules() if isinstance(each, torch.fx.GraphModule)]
    found = sorted({name for module in modules for node in module.graph.nodes for name in _in_training(node)})
    if found:
        raise UnsupportedModelError(
            f"model {label} answers differently whenever it is asked: its graph holds {' and '.join(found)}; {WAY_OUT}"
        )


def require_repeatable(label: str, call: Call, images: torch.Tensor, eps: float) -> None:
    """UnsupportedModelError when a model answers an image (1,C,H,W) otherwise the second time, or beside another.

    The image is asked about twice with noise beside it, once behind the noise, and once alone. ``call`` gives the
    outputs (N,classes) of images on their device, ``eps`` is the spacing of the model's own numbers.
    """
    tolerance = max(TOLERANCE, ROUNDINGS * eps)
    with torch.inference_mode():
        pair = torch.cat([images[:1], noise_like(images)[:1]])
        first, before = call(pair), _draws(images.device)
        again = call(pair)
        more = 0 if torch.equal(before, _draws(images.device)) else AGAIN
        _require_same(label, first, [again, *(call(pair) for _ in range(more))], tolerance, "when asked twice", DRAWS)
        turned, alone = call(pair.flip(0)).flip(0), call(pair[:1])
        _require_same(label, first[:1], [turned[:1], alone], tolerance, "with other images beside it", LOOKS)


def _require_same(
    label: str, first: torch.Tensor, others: list[torch.Tensor], tolerance: float, how: str, why: str
) -> None:
    largest = float(first.nan_to_num().abs().max())
    moved = max(float((first - other).nan_to_num().abs().max()) for other in others)
    if moved > tolerance * largest:
        raise UnsupportedModelError(
            f"model {label} answers an image differently {how} (outputs up to {largest:.3g} move by {moved:.3g}): "
            f"it {why}; {WAY_OUT}"
        )


def _draws(device: torch.device) -> torch.Tensor:
    """Where torch's generator is: it moves when a model draws."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


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
