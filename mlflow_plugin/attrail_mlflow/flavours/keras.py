"""Keras models as .keras files: a description of layers and their weights, none of it code."""

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from attrail_explainers.errors import UnsupportedModelError

if TYPE_CHECKING:
    from attrail_explainers.model.classifier import Classifier
    from attrail_explainers.model_files.export_archive import ArchivedState


class Keras:
    """What ``mlflow.keras.log_model`` writes of a Keras 3 model, from any backend."""

    name: ClassVar[str] = "keras"
    title: ClassVar[str] = "Keras"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"code", "data", "keras_backend", "keras_version", "save_exported_model"}
    )
    data_key: ClassVar[str] = "data"
    loader: ClassVar[str] = "mlflow.keras"
    pyfunc_data: ClassVar[bool] = False
    runs_code: ClassVar[bool] = False
    log_again: ClassVar[str] = (
        "log it with mlflow.keras.log_model from Keras 3, without save_exported_model, custom objects and code_paths"
    )
    members: ClassVar[tuple[str, ...]] = ("{data}/model.keras", "{data}/keras_module.txt")
    describing: ClassVar[tuple[str, ...]] = ()

    def may_have(self, name: str, data: str) -> bool:
        """No file beside its members."""
        return False

    def require_known(self, folder: Path, data: str, what: str) -> None:
        """The archive is looked at by what loads it; ``keras_module.txt`` is not read."""

    def inside(self, names: Collection[str]) -> Mapping[str, str]:
        """Archives of Keras 3."""
        return {name: str(PurePosixPath(name).parent) for name in names if name.endswith(".keras")}

    def facts(self, folder: Path, data: str, what: str) -> Mapping[str, Any]:
        """Nothing: a .keras file names neither classes nor how pictures become its inputs."""
        return {}

    def state(self, model: Path, label: str) -> "ArchivedState | None":
        """None: weights are named by their layers' places in the file, and known when it was loaded."""
        return None

    def classifier(self, model: Path, name: str, version: str) -> "Classifier":
        """As ``classifier_from_keras`` reads it; UnsupportedModelError when it is not as it must be."""
        try:
            from attrail_explainers.model.keras_model import classifier_from_keras  # noqa: PLC0415 - it loads torch
        except ModuleNotFoundError as error:
            raise UnsupportedModelError(
                f"model {name}/{version} is one of Keras: {error}; install attrail with it, pip install "
                "'attrail[keras]'"
            ) from error
        return classifier_from_keras(model, name, version)


FLAVOUR = Keras
