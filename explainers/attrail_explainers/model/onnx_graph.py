"""Models in ONNX: run by onnxruntime, and by torch where gradients or layers are asked for, if both agree."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx2fx
import onnxruntime  # type: ignore[import-untyped]
import torch
from torch.fx.node import map_aggregate

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.pixels import Pixels
from attrail_explainers.model.returned import channels_first
from attrail_explainers.model_files.onnx_file import graph_digest, read_graph, renamed

SIDE = 224  # pixels, where a graph leaves its images' size open
AGREE = 1e-3  # of the largest output: what two runtimes may differ by
TYPES = {
    "tensor(float)": torch.float32,
    "tensor(float16)": torch.float16,
    "tensor(double)": torch.float64,
    "tensor(uint8)": torch.uint8,
}
CHANNELS = (1, 3, 4)  # of images whose channels come last, as Keras and TensorFlow have them

# What a converter, and torch with what it made, stumble over.
NOT_CONVERTED = (
    *(onnx2fx.Onnx2FxError, UnsupportedModelError, ArithmeticError, AttributeError, LookupError, RuntimeError),
    *(TypeError, ValueError),
)

logger = logging.getLogger("attrail.explainers")


@dataclass(frozen=True)
class ImageInput:
    """What a graph takes: images (N,C,H,W), or (N,H,W,C) with ``channels_last``, of a torch ``dtype``.

    ``sizes`` are its own, None where it takes any.
    """

    name: str
    dtype: torch.dtype
    sizes: tuple[int | None, ...]
    channels_last: bool

    @classmethod
    def of(cls, session: onnxruntime.InferenceSession, label: str) -> "ImageInput":
        """The one input of a session; UnsupportedModelError when it takes no images, or something beside them."""
        inputs = session.get_inputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in TYPES:
            found = ", ".join(f"{each.name} {each.type} {each.shape}" for each in inputs)
            raise UnsupportedModelError(
                f"model {label}: expected one input of images (N,C,H,W) or (N,H,W,C), its graph takes "
                f"{excerpt(found)}; export a model of images alone"
            )
        sizes = tuple(each if isinstance(each, int) else None for each in inputs[0].shape)
        last = sizes[3] in CHANNELS and sizes[1] not in CHANNELS
        return cls(inputs[0].name, TYPES[inputs[0].type], sizes, last)

    @property
    def kind(self) -> str:
        """NumPy's name of its numbers."""
        return str(self.dtype).removeprefix("torch.")

    def taken(self, images: torch.Tensor) -> torch.Tensor:
        """Images (N,C,H,W) as the graph takes them; whole numbers are kept as floats, for gradients."""
        turned = images.permute(0, 2, 3, 1) if self.channels_last else images
        return turned.float() if self.dtype == torch.uint8 else turned.to(self.dtype)

    def returned(self, outputs: Any) -> Any:
        """What the graph returned, with its grids as (N,C,h,w)."""
        return channels_first(outputs) if self.channels_last else outputs

    def example(self) -> torch.Tensor:
        """Noise (N,C,H,W) of the graph's size, whole numbers of 0..255 where it takes these."""
        count, *rest = self.sizes
        channels, height, width = (rest[-1], *rest[:2]) if self.channels_last else rest
        shape = (count or 2, channels or 3, height or SIDE, width or SIDE)
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
        return (noise * 64 + 128).clamp(0, 255).round() if self.dtype == torch.uint8 else noise


class OnnxSession(torch.nn.Module):
    """A graph in onnxruntime, in one thread as all that must give the same bytes, behind images (N,C,H,W).

    Where a gradient is asked for, or somebody follows torch's operations, ``network`` answers instead, if the graph
    could be converted.
    """

    def __init__(self, session: onnxruntime.InferenceSession, takes: ImageInput) -> None:
        super().__init__()
        self.session, self.takes = session, takes
        self._network: tuple[torch.nn.Module, ...] = ()  # in a tuple it is no part of this one

    def with_network(self, network: torch.nn.Module) -> "OnnxSession":
        """Itself, with a network that stands in where gradients are asked for."""
        self._network = (network,)
        return self

    def forward(self, images: torch.Tensor) -> Any:
        """The graph's output for images (N,C,H,W), or its outputs by name where it has several."""
        followed = torch._C._len_torch_function_stack() > 0
        if self._network and (followed or (images.requires_grad and torch.is_grad_enabled())):
            return self._network[0](images)
        given = self.takes.taken(images.detach()).cpu()
        if self.takes.dtype == torch.uint8:
            given = given.round().clamp(0, 255).to(torch.uint8)
        try:
            found = self.session.run(None, {self.takes.name: np.ascontiguousarray(given.numpy())})
        except Exception as error:  # the runtime's errors have no common type; torch's have this one
            raise RuntimeError(_first_line(error)) from error
        names = [each.name for each in self.session.get_outputs()]
        return self.takes.returned(_outputs(names, [torch.from_numpy(np.asarray(each)) for each in found]))


@dataclass(frozen=True)
class _Reaching:
    """The place of an operator's argument among the values that reach it."""

    number: int


@dataclass(frozen=True)
class _Own:
    """The name of an operator's argument among its own weights."""

    name: str


class Operation(torch.nn.Module):
    """One operator of a graph, with the weights that it alone uses as its parameters, so that hooks find both."""

    def __init__(self, function: Any, arguments: Any, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.function, self.arguments = function, arguments
        for name, weight in weights.items():
            self.register_parameter(name, torch.nn.Parameter(weight, requires_grad=False))

    def forward(self, *reaching: Any) -> Any:
        """What the operator gives for the values that reach it."""

        def value(each: Any) -> Any:
            if isinstance(each, _Reaching):
                return reaching[each.number]
            return getattr(self, each.name) if isinstance(each, _Own) else each

        args, kwargs = map_aggregate(self.arguments, value)
        return self.function(*args, **kwargs)


class OnnxNetwork(torch.nn.Module):
    """A graph in torch: its operators as submodules, ``onnx.Conv_0``, ``onnx.Relu_0`` and so on in their order."""

    def __init__(self, converted: torch.fx.GraphModule, takes: ImageInput, outputs: list[str]) -> None:
        super().__init__()
        self.takes, self.outputs = takes, outputs
        self.onnx = torch.nn.Module()
        self.steps: list[tuple[str, str, tuple[str, ...]]] = []  # value, layer, and the values that reach it
        counts: Counter[str] = Counter()
        for node in converted.graph.nodes:
            if node.op == "placeholder":
                self.input = node.name
            elif node.op == "get_attr":
                self._keep(node, _tensor(converted, node))
            elif node.op == "output":
                self.result = map_aggregate(node.args[0], _named)
            else:
                kind = str(node.meta.get("onnx_op_type") or "Value")
                layer = f"{kind}_{counts[kind]}"
                counts[kind] += 1
                self._add(converted, node, layer)

    def _keep(self, node: torch.fx.Node, tensor: torch.Tensor) -> None:
        """What several operators share, or is no weight, is the network's own."""
        if not _is_own(node, tensor):
            self.register_buffer(node.name, tensor)

    def _add(self, converted: torch.fx.GraphModule, node: torch.fx.Node, layer: str) -> None:
        if node.op != "call_function":
            raise UnsupportedModelError(f"its operator {node.meta.get('onnx_op_type')} holds a graph of its own")
        reaching: list[str] = []
        weights: dict[str, torch.Tensor] = {}

        def place(each: Any) -> Any:
            if not isinstance(each, torch.fx.Node):
                return each
            if each.op == "get_attr" and _is_own(each, _tensor(converted, each)):
                weights[f"weight{len(weights)}"] = _tensor(converted, each)
                return _Own(f"weight{len(weights) - 1}")
            reaching.append(each.name)
            return _Reaching(len(reaching) - 1)

        arguments = map_aggregate((tuple(node.args), dict(node.kwargs)), place)
        self.onnx.add_module(layer, Operation(node.target, arguments, weights))
        self.steps.append((node.name, layer, tuple(reaching)))

    def forward(self, images: torch.Tensor) -> Any:
        """The graph's output for images (N,C,H,W), or its outputs by name where it has several."""
        values: dict[str, Any] = {self.input: self.takes.taken(images), **dict(self.named_buffers(recurse=False))}
        for name, layer, reaching in self.steps:
            values[name] = self.onnx.get_submodule(layer)(*(values[each] for each in reaching))
        found = map_aggregate(self.result, lambda each: values[each.name] if isinstance(each, _Own) else each)
        found = list(found) if isinstance(found, tuple | list) else [found]
        return self.takes.returned(_outputs(self.outputs, found))


def classifier_from_onnx(path: Path, name: str, version: str) -> Classifier:
    """A classifier from an ONNX file: onnxruntime answers, torch gives gradients and layers.

    torch has the graph by onnx2fx, whose answers to noise must be onnxruntime's; where they are not, or it lacks an
    operator, a warning says so and the model can only be called. Raises UnsupportedModelError when the file is not as
    it must be or takes no images.
    """
    label = f"{name}/{version}"
    model = read_graph(path, label)
    session = _session(path, label)
    takes = ImageInput.of(session, label)
    called = OnnxSession(session, takes)
    outputs = [each.name for each in session.get_outputs()]
    program = {"format": "attrail.onnx/1", "graph": graph_digest(model), "library": onnxruntime.__version__}
    more: dict[str, Any] = {"batch_size": takes.sizes[0], "program_digest": digest_of(program)}
    more |= {"takes": takes.kind, "pixels": Pixels() if takes.dtype == torch.uint8 else None}
    try:
        network = OnnxNetwork(onnx2fx.convert(renamed(model)), takes, outputs).eval()
        _require_agreement(called, network, takes.example())
    except NOT_CONVERTED as error:
        logger.warning(
            "model %s has no gradients and no layers, only explainers that call the model apply to it: torch does not "
            "compute what its graph says (%s)",
            label,
            excerpt(_first_line(error)),
        )
        return Classifier(name, version, called, called, **more)
    return Classifier(name, version, network, called.with_network(network), **more)


def _session(path: Path, label: str) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own errors have no common type
        raise UnsupportedModelError(
            f"model {label} cannot be run by onnxruntime {onnxruntime.__version__}: "
            f"{excerpt(_first_line(error))}; export it again"
        ) from error


def _require_agreement(called: OnnxSession, network: OnnxNetwork, example: torch.Tensor) -> None:
    with torch.inference_mode():
        pairs = list(zip(_tensors(called(example)), _tensors(network(example)), strict=True))
    for one, other in pairs:
        largest = float(one.double().abs().max()) if one.numel() else 0.0
        apart = float((one.double() - other.double()).abs().max()) if one.numel() else 0.0
        if one.shape != other.shape or not apart <= AGREE * largest:
            raise UnsupportedModelError(f"onnxruntime and torch differ by {apart:.2g} of {largest:.2g} on noise")


def _tensors(returned: Any) -> Iterator[torch.Tensor]:
    yield from returned.values() if isinstance(returned, dict) else [returned]


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _outputs(names: list[str], found: list[torch.Tensor]) -> Any:
    return found[0] if len(found) == 1 else dict(zip(names, found, strict=True))


def _named(node: Any) -> Any:
    return _Own(node.name) if isinstance(node, torch.fx.Node) else node


def _tensor(converted: torch.fx.GraphModule, node: torch.fx.Node) -> torch.Tensor:
    found: torch.Tensor = getattr(converted, str(node.target))
    return found.detach()


def _is_own(node: torch.fx.Node, tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() and len(node.users) == 1 and tensor.ndim > 0
