"""ONNX models: a graph, and where it is large its tensors in a file beside it; none of it is code."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from attrail_explainers.errors import RegistryError, UnsupportedModelError
from attrail_explainers.excerpt import excerpt

if TYPE_CHECKING:
    from attrail_explainers.model.classifier import Classifier
    from attrail_explainers.model_files.export_archive import ArchivedState

TENSORS = re.compile(r"[0-9a-f-]{36}\.data")  # the file that mlflow.onnx keeps large tensors in


class Onnx:
    """What ``mlflow.onnx.log_model`` writes."""

    name: ClassVar[str] = "onnx"
    title: ClassVar[str] = "ONNX"
    keys: ClassVar[frozenset[str]] = frozenset({"code", "data", "onnx_session_options", "onnx_version", "providers"})
    data_key: ClassVar[str] = "data"
    loader: ClassVar[str] = "mlflow.onnx"
    pyfunc_data: ClassVar[bool] = True
    runs_code: ClassVar[bool] = False
    log_again: ClassVar[str] = "log it with mlflow.onnx.log_model, without code_paths"
    members: ClassVar[tuple[str, ...]] = ("{data}",)
    describing: ClassVar[tuple[str, ...]] = ()

    def may_have(self, name: str, data: str) -> bool:
        """Tensors beside the graph, as MLflow names their file."""
        return bool(TENSORS.fullmatch(name))

    def require_known(self, folder: Path, data: str, what: str) -> None:
        """The files of tensors are those that the graph names, no more and no others."""
        try:
            from attrail_explainers.model_files.onnx_file import external_files  # noqa: PLC0415 - it loads onnx
        except ModuleNotFoundError:
            return  # ``classifier`` says what to install
        try:
            named = external_files(folder / data)
        except Exception as error:  # protobuf's errors are its own
            raise RegistryError(
                f"{what}: its file {data} is no ONNX file ({excerpt(error)}); {self.log_again}"
            ) from error
        beside = {path.name for path in (folder / data).parent.iterdir()}
        there = {name for name in beside if TENSORS.fullmatch(name)}
        for name in sorted(named - beside):
            raise RegistryError(f"{what} lacks the file {excerpt(name)}, which {data} names; {self.log_again}")
        for name in sorted(there - named):
            raise RegistryError(f"{what} has the file {name!r}, which {data} does not name; {self.log_again}")

    def inside(self, names: Collection[str]) -> Mapping[str, str]:
        """Files of graphs."""
        return {name: name for name in names if name.endswith(".onnx")}

    def facts(self, folder: Path, data: str, what: str) -> Mapping[str, Any]:
        """Nothing: a graph names neither its classes nor how pictures become its inputs."""
        return {}

    def state(self, model: Path, label: str) -> "ArchivedState | None":
        """The graph's constant tensors, as ``graph_state`` has them."""
        from attrail_explainers.model_files.onnx_file import graph_state, read_graph  # noqa: PLC0415 - it loads onnx

        return graph_state(read_graph(model, label))

    def classifier(self, model: Path, name: str, version: str) -> "Classifier":
        """As ``classifier_from_onnx`` reads it; UnsupportedModelError when it is not as it must be."""
        try:
            from attrail_explainers.model.onnx_graph import classifier_from_onnx  # noqa: PLC0415 - it loads torch
        except ModuleNotFoundError as error:
            raise UnsupportedModelError(
                f"model {name}/{version} is one of ONNX: {error}; install attrail with it, pip install 'attrail[onnx]'"
            ) from error
        return classifier_from_onnx(model, name, version)


FLAVOUR = Onnx
