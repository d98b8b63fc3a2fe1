"""What an exported program computes, as a digest: the same module logged twice has one, any other program another.

Counted are the nodes in their order (operators, arguments, the submodule each belongs to, since layers are explained),
the graphs inside them, what the inputs and outputs are, and the bytes of every constant and of every buffer that is not
saved with the weights; the weights' digest stands beside this one. Left out is what no call reads: names of values,
stack traces, the time. The operators belong to torch and torchvision, whose versions count wherever results are kept.
"""

import operator
import re
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch.export import ExportedProgram

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model_files.state_digest import digest_of_state

SYMBOL = re.compile(r"\b[a-z]+\d+\b")  # a size that is not fixed; which number it got is chance
PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)

Places = Mapping[torch.fx.Node, str]


class _UnknownPartError(Exception):
    """A part of a program that cannot be written down with certainty."""


def program_digest(program: ExportedProgram, weights: Collection[str]) -> str | None:
    """The digest of what a program computes, but for the values of the tensors named ``weights``.

    None when it has a part whose meaning is not certain, such as an object that only its operator can read.
    """
    signature, sizes = program.graph_signature, _Sizes()
    others = {name: tensor for name, tensor in program.state_dict.items() if name not in weights}
    try:
        inputs = [[each.kind.name, each.target, each.persistent, _argument(each.arg)] for each in signature.input_specs]
        return digest_of(
            {
                "format": "attrail.program/1",
                "inputs": inputs,
                "shapes": [_shape(each, sizes) for each in program.graph.nodes if each.op == "placeholder"],
                "graph": _graph(program.graph_module),
                "outputs": [[each.kind.name, each.target, _argument(each.arg)] for each in signature.output_specs],
                "calls": [[each.fqn, _call(each.signature)] for each in program.module_call_graph],
                "limits": sorted([sizes.named(key), str(value)] for key, value in program.range_constraints.items()),
                "tensors": digest_of_state({**program.constants, **others}, "program"),
            }
        )
    except (_UnknownPartError, UnsupportedModelError):
        return None


class _Sizes:
    """Names for sizes that are not fixed, by the order in which they are met."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def named(self, size: Any) -> str:
        return SYMBOL.sub(lambda found: self._names.setdefault(found[0], f"size {len(self._names)}"), str(size))


def _shape(placeholder: torch.fx.Node, sizes: _Sizes) -> list[Any]:
    value = placeholder.meta.get("val")
    if not isinstance(value, torch.Tensor):
        return [_plain(value)]
    return [str(value.dtype), str(value.device.type), *(sizes.named(size) for size in value.shape)]


def _argument(argument: Any) -> list[Any]:
    """What an input or output is: a tensor of the graph, or a constant and its value."""
    return [type(argument).__name__, _plain(getattr(argument, "value", None))]


def _call(signature: Any) -> Any:
    """How a submodule is called, where the program says so; the names of its arguments are its code's own."""
    return None if signature is None else [str(signature.in_spec), str(signature.out_spec)]


def _graph(module: torch.fx.GraphModule) -> list[Any]:
    places = {node: f"%{place}" for place, node in enumerate(module.graph.nodes)}
    return [_node(node, places, module) for node in module.graph.nodes]


def _node(node: torch.fx.Node, places: Places, module: torch.fx.GraphModule) -> list[Any]:
    within = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    target = None if node.op in ("placeholder", "output") else _target(node, module)
    return [node.op, target, _value(node.args, places), _value(node.kwargs, places), within]


def _target(node: torch.fx.Node, module: torch.fx.GraphModule) -> Any:
    target = node.target
    if node.op == "get_attr":
        return _attribute(operator.attrgetter(str(target))(module))
    if node.op != "call_function":
        raise _UnknownPartError(node.op)
    if isinstance(target, torch._ops.OpOverload):
        return str(target)
    if isinstance(target, torch._ops.HigherOrderOperator):
        return target.name()
    if getattr(target, "__module__", None) in ("_operator", "math", "torch") and hasattr(target, "__name__"):
        return f"{target.__module__}.{target.__name__}"
    raise _UnknownPartError(str(target))


def _attribute(found: Any) -> Any:
    if isinstance(found, torch.fx.GraphModule):
        return _graph(found)
    if isinstance(found, torch.Tensor):
        return digest_of_state({"": found}, "program")
    raise _UnknownPartError(type(found).__name__)


def _value(value: Any, places: Places) -> Any:
    if isinstance(value, torch.fx.Node):
        return places[value]
    if isinstance(value, list | tuple):
        return ["sequence", *(_value(each, places) for each in value)]
    if isinstance(value, Mapping):
        return ["mapping", *sorted([str(key), _value(each, places)] for key, each in value.items())]
    if isinstance(value, slice):
        return ["slice", *(_value(each, places) for each in (value.start, value.stop, value.step))]
    return _plain(value)


def _plain(value: Any) -> list[str]:
    """A constant and its type: 1, 1.0 and True are not the same argument."""
    if not isinstance(value, PLAIN):
        raise _UnknownPartError(type(value).__name__)
    return [type(value).__name__, repr(value)]
