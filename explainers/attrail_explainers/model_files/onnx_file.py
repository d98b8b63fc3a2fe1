"""ONNX files, read as data: the graph and the tensors beside it, checked before anything is run."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
from onnx import checker, external_data_helper, inliner, numpy_helper

from attrail_explainers.digest import digest_of, digest_of_arrays
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model_files.export_archive import ArchivedState

FLOATS = {onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE, onnx.TensorProto.BFLOAT16}
OWN = re.compile(r"(ai\.onnx|com\.microsoft)?(\.ml)?")  # domains of operators that onnxruntime itself brings
NAMES_NOTHING = ("doc_string", "producer_name", "producer_version", "metadata_props")


def read_graph(path: Path, label: str) -> onnx.ModelProto:
    """The model in an ONNX file, with the tensors of the files that it names beside it, its functions written out.

    Raises UnsupportedModelError, which names the model by ``label``, for a file that is damaged or not valid ONNX, and
    for operators that no runtime has without code of the model's own.
    """
    try:
        checker.check_model(str(path))
        model = inliner.inline_local_functions(onnx.load(path))
    except MemoryError:
        raise
    except Exception as error:  # protobuf, onnx's checker and its C++ each have errors of their own
        reason = excerpt(str(error).strip().partition("\n")[0])
        raise UnsupportedModelError(
            f"model {label}: its file {path.name} cannot be read by onnx {onnx.__version__} ({reason}): export it again"
        ) from error
    foreign = sorted({f"{node.domain}.{node.op_type}" for node in nodes(model.graph) if not OWN.fullmatch(node.domain)})
    if foreign:
        raise UnsupportedModelError(
            f"model {label} needs operators that come with a library of its own: {', '.join(foreign[:5])}; no code of "
            "a model is run here: export it without custom operators"
        )
    return model


def external_files(path: Path) -> set[str]:
    """The names of the files that an ONNX file says its tensors lie in; ValueError where it cannot be read."""
    model = onnx.load(path, load_external_data=False)
    tensors = external_data_helper._get_all_tensors(model)
    external = [each for each in tensors if external_data_helper.uses_external_data(each)]
    return {entry.value for each in external for entry in each.external_data if entry.key == "location"}


def graph_state(model: onnx.ModelProto) -> ArchivedState:
    """The graph's constant tensors of floating-point numbers by name, and the digest of their values."""
    arrays = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer if each.data_type in FLOATS}
    tensors = {name: (str(array.dtype), tuple(array.shape)) for name, array in arrays.items()}
    return ArchivedState(tensors, digest_of_arrays((name, arrays[name]) for name in sorted(arrays)))


def graph_digest(model: onnx.ModelProto) -> str:
    """What a graph computes, but for the values of its floating-point tensors: a digest of all else that it says."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for field in NAMES_NOTHING:
        bare.ClearField(field)
    for tensor in bare.graph.initializer:
        tensor.ClearField("data_location")  # said of tensors that lay in a file beside it
        if tensor.data_type in FLOATS:
            for field in ("raw_data", "float_data", "double_data", "int32_data"):
                tensor.ClearField(field)
    for node in nodes(bare.graph):
        node.ClearField("metadata_props")  # stack traces, with the paths of the machine that exported it
        node.ClearField("doc_string")
    return digest_of({"format": "attrail.onnx/1", "graph": bare.SerializeToString(deterministic=True).hex()})


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes, those of the graphs inside of nodes as well."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def renamed(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with a number for every name of a value or node, which come from outside and may be anything."""
    safe = onnx.ModelProto()
    safe.CopyFrom(model)
    names: dict[str, str] = {"": ""}  # an input that is left out has no name

    def new(name: str) -> str:
        return names.setdefault(name, f"v{len(names)}")

    _rename(safe.graph, new)
    return safe


def _rename(graph: onnx.GraphProto, new: Any) -> None:
    graph.name = "graph"
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        value.name = new(value.name)
    for value in graph.sparse_initializer:
        value.values.name = new(value.values.name)
    for number, node in enumerate(graph.node):
        node.name = f"node{number}"
        node.input[:] = [new(each) for each in node.input]
        node.output[:] = [new(each) for each in node.output]
        node.ClearField("metadata_props")
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node:
                    _rename(inner, new)
