"""What an exported program may say before torch reads it: its JSON is data here, and partly code there.

torch turns names into Python source, expressions of sizes into ``eval``, operators into whatever attribute of torch
they name, and the trees of inputs and outputs into imports (``torch._export.serde``, ``torch.fx``, 2.15). So names must
be names, sizes sums and products, operators torch's own, and inputs and outputs plain containers.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model_files.size_expression import SYMBOL, is_size

OPERATOR = re.compile(
    r"torch\.ops\.(aten|prims|torchvision|quantized_decomposed)\.\w+\.\w+|math\.[a-z]\w*|torch\._?sym_\w+"
    r"|_operator\.(abs|add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|not_|or_|pos|pow|rshift|sub|truediv)"
    r"|torch\.ops\.higher_order\.(associative_scan|cond|flex_attention|map|map_impl|scan|tag_activation_checkpoint"
    r"|while_loop|wrap_with_autocast|wrap_with_set_grad_enabled)"
)
WITH_FILES = re.compile(r"torch\.ops\.aten\.from_file\.\w+")
PATH = re.compile(r'[^"\\\x00-\x1f\x7f]*')  # of a submodule or a weight; it comes to stand between double quotes
CONTAINERS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}


def require_plain_program(program: Mapping[str, Any], label: str) -> None:
    """Raise unless torch may read the program (``models/model.json`` of a pt2 archive) without running what it says.

    The UnsupportedModelError names the model by ``label`` and the first thing that is none of the above.
    """
    for symbol in _table(program.get("range_constraints"), label):
        if not SYMBOL.fullmatch(symbol):
            raise UnsupportedModelError(f"model {label}: its program has a size called {symbol!r}; log the model again")
    waiting: list[Any] = [program]
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            for key, value in found.items():
                _require_plain(key, value, label)
            waiting += found.values()


def _require_plain(key: str, value: Any, label: str) -> None:
    if key in OBJECTS and value:
        raise UnsupportedModelError(
            f"model {label}: its program holds an object ({key}), attrail takes tensors only; log a model without it"
        )
    if key == "forward_arg_names" and isinstance(value, list):
        for each in value:
            _require_name(each, label)
    elif key in RULES and isinstance(value, str):
        RULES[key](value, label)


def _require_name(name: str, label: str) -> None:
    if not isinstance(name, str) or (name and not name.isidentifier()):
        raise UnsupportedModelError(f"model {label}: {excerpt(name)!r} in its program is no name; log the model again")


def _require_path(path: str, label: str) -> None:
    if not PATH.fullmatch(path):
        raise UnsupportedModelError(f"model {label}: {excerpt(path)!r} is no name of a submodule; log the model again")


def _require_operator(target: str, label: str) -> None:
    if not OPERATOR.fullmatch(target) or WITH_FILES.fullmatch(target):
        raise UnsupportedModelError(
            f"model {label} uses the operator {excerpt(target)!r}, which is not among those of torch and "
            "torchvision that attrail lets a model use; log a model without it"
        )


def _require_size(text: str, label: str) -> None:
    if not is_size(text):
        raise UnsupportedModelError(f"model {label}: {excerpt(text)!r} in its program is no size; log the model again")


def _require_input(text: str, label: str) -> None:
    for context in _contexts(text, "takes", label):
        for name in context:
            _require_name(name, label)


def _require_output(text: str, label: str) -> None:
    _contexts(text, "returns", label)


def _contexts(text: str, verb: str, label: str) -> list[list[Any]]:
    """The keys of every container in a tree of inputs or outputs; torch would import what other contexts name."""
    contexts, waiting = [], [_tree(text, label)]
    while waiting:
        node = waiting.pop()
        kind, context = node.get("type"), _parsed(node.get("context"), label)
        if kind not in CONTAINERS:
            raise UnsupportedModelError(
                f"model {label} {verb} {excerpt(kind)!r}, which is not registered here: log one that takes an image "
                "tensor (N,C,H,W) and returns its logits (N,classes) as a tensor"
            )
        if context is not None and not (isinstance(context, list) and all(isinstance(x, str | int) for x in context)):
            raise UnsupportedModelError(f"model {label} {verb} a container without plain keys; log the model again")
        contexts.append(context or [])
        waiting += [_table(each, label) for each in node.get("children_spec") or []]
    return contexts


def _tree(text: str, label: str) -> Mapping[str, Any]:
    """The root of a tree, which torch writes as [protocol, root]."""
    found = _parsed(text, label)
    if not isinstance(found, list) or len(found) != 2 or found[0] != 1:
        raise UnsupportedModelError(f"model {label}: its inputs are not written as torch does; log it again")
    return _table(found[1], label)


def _parsed(text: Any, label: str) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnsupportedModelError(f"model {label}: its program holds no JSON where torch does ({error})") from error


def _table(found: Any, label: str) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise UnsupportedModelError(f"model {label}: its program lacks a table that torch writes; log the model again")
    return found


OBJECTS = {"as_custom_obj", "custom_obj", "custom_obj_values"}
RULES: Mapping[str, Callable[[str, str], None]] = {
    "name": _require_name,
    "as_name": _require_name,
    "target": _require_operator,
    "as_operator": _require_operator,
    "expr_str": _require_size,
    "in_spec": _require_input,
    "out_spec": _require_output,
    "fqn": _require_path,
    "nn_module_stack": _require_path,
    "parameter_name": _require_path,
    "buffer_name": _require_path,
    "tensor_constant_name": _require_path,
    "user_input_name": _require_path,
}
