"""The layers of a version by its exported graph: operators, output shapes, parameters, multiply-adds."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.operations import CONVOLUTIONS, operation
from attrail_explainers.model.working_copy import CALL, WorkingCopy

# What torch.export, and a graph that is run anew, stumble over.
NOT_EXPORTED = (AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


@dataclass
class GraphLayer:
    """What a layer does by itself, without what the layers inside it do.

    ``output`` is the shape of what it gives last for one image, ``multiply_adds`` are those for one image.
    """

    operators: list[str] = field(default_factory=list)
    output: tuple[int, ...] | None = None
    multiply_adds: int = 0


def graph_of(classifier: Classifier, model: WorkingCopy, images: torch.Tensor) -> dict[str, GraphLayer]:
    """The layers of a version by their own names, in the order in which they finish, by running its graph once.

    An exported program is a graph already; an ordinary module is exported for it (``torch.export``, which names for
    each operation the module that it stands in). ``images`` (N,C,H,W) are as many as the version takes at once. Raises
    UnsupportedModelError for a module that cannot be exported.
    """
    exported = isinstance(classifier.graph, torch.fx.GraphModule)
    try:
        with torch.no_grad(), model.hooks({}):
            graph: Any = classifier.graph if exported else _exported(model.module, images)
            walk = _Walk(graph, len(images), {name for name, _ in classifier.module.named_modules()})
            walk.run(images)
    except NOT_EXPORTED as error:
        raise UnsupportedModelError(
            f"model {model.label} has no graph that could be shown: torch.export cannot follow it "
            f"({excerpt(str(error).strip().partition(chr(10))[0])}); log it in MLflow's default pt2 format"
        ) from error
    return walk.layers


def _exported(module: torch.nn.Module, images: torch.Tensor) -> torch.nn.Module:
    program = torch.export.export(module, (images,), strict=False)
    return program.module(check_guards=False)


class _Walk(torch.fx.Interpreter):
    """Runs a graph and notes what each operation does; layers are where ``nn_module_stack`` says it stands."""

    def __init__(self, graph: torch.fx.GraphModule, images: int, known: Collection[str]) -> None:
        super().__init__(graph)
        self.known = known
        self.layers: dict[str, GraphLayer] = {}
        self.images = images

    def run_node(self, n: torch.fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function" and not isinstance(n.target, str) and hasattr(n.target, "overloadpacket"):
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            name, _ = operation(n.target, kwargs)
            layer = _layer_of(n.meta.get("nn_module_stack") or {})
            layer = layer if layer in self.known else ""  # torch has names of its own for what stands in no module
            facts = self.layers.pop(layer, GraphLayer())
            self.layers[layer] = facts  # to the end: in the order in which they finish
            if name not in facts.operators:
                facts.operators.append(name)
            if isinstance(result, torch.Tensor):
                facts.output = tuple(result.shape[1:])
                facts.multiply_adds += multiply_adds(name, args, result) // self.images
        return result


def _layer_of(stack: Mapping[str, Any]) -> str:
    path = str(list(stack.values())[-1][0]) if stack else ""
    return CALL.sub("", path)


def multiply_adds(name: str, args: tuple[Any, ...], result: torch.Tensor) -> int:
    """How many multiplications, with an addition each, an operation of torch takes; 0 for what is no sum of products.

    As ``torch.utils.flop_counter`` counts them, whose numbers are twice these.
    """
    if name.startswith("conv_transpose"):
        return int(args[0].numel() * args[1][0].numel())
    if name in CONVOLUTIONS:
        return int(result.numel() * args[1][0].numel())
    if name in {"linear", "mm", "bmm", "matmul"}:
        return int(result.numel() * args[0].shape[-1])
    if name in {"addmm", "baddbmm"}:
        return int(result.numel() * args[1].shape[-1])
    if name == "scaled_dot_product_attention":
        query, key = args[:2]
        return int((query.numel() + result.numel()) * key.shape[-2])
    return 0
