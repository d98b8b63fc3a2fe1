"""PyTorch models as programs that ``torch.export`` wrote, which is MLflow's default: none of it is code."""

from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from attrail_explainers.model_files.export_archive import ArchivedState, archived_state

if TYPE_CHECKING:
    from attrail_explainers.model.classifier import Classifier

LOG_AGAIN = "log the model with mlflow.pytorch.log_model, in its default pt2 format and without code_paths"


class PyTorchExport:
    """What ``mlflow.pytorch.log_model`` writes; the archive is checked before torch reads it."""

    name: ClassVar[str] = "pytorch"
    title: ClassVar[str] = "PyTorch"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"code", "extra_files", "model_data", "pytorch_version", "requirements_file"}
    )
    data_key: ClassVar[str] = "model_data"
    loader: ClassVar[str] = "mlflow.pytorch"
    pyfunc_data: ClassVar[bool] = True
    runs_code: ClassVar[bool] = False
    log_again: ClassVar[str] = LOG_AGAIN
    members: ClassVar[tuple[str, ...]] = ("{data}/model.pt2",)
    describing: ClassVar[tuple[str, ...]] = ()

    def may_have(self, name: str, data: str) -> bool:
        """No file beside its members."""
        return False

    def require_known(self, folder: Path, data: str, what: str) -> None:
        """Its one file says nothing of itself before it is read."""

    def inside(self, names: Collection[str]) -> Mapping[str, str]:
        """Archives of ``torch.export``."""
        return {name: str(PurePosixPath(name).parent) for name in names if name.endswith(".pt2")}

    def facts(self, folder: Path, data: str, what: str) -> Mapping[str, Any]:
        """Nothing: what ``log_classifier`` knows stands in MLmodel."""
        return {}

    def state(self, model: Path, label: str) -> ArchivedState | None:
        """As ``archived_state`` reads it; UnsupportedModelError when the archive is not as it must be."""
        return archived_state(model, label)

    def classifier(self, model: Path, name: str, version: str) -> "Classifier":
        """As ``classifier_from_export`` reads it; UnsupportedModelError when the archive is not as it must be."""
        from attrail_explainers.model.loading import classifier_from_export  # noqa: PLC0415 - it loads torch

        return classifier_from_export(model, name, version)


FLAVOUR = PyTorchExport
