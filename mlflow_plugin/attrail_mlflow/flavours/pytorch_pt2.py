"""PyTorch models as programs that ``torch.export`` wrote, which is MLflow's default: none of it is code."""

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attrail_explainers.model_files.export_archive import ArchivedState, archived_state

if TYPE_CHECKING:
    from attrail_explainers.model.classifier import Classifier


class PyTorchExport:
    """What ``mlflow.pytorch.log_model`` writes; the archive is checked before torch reads it."""

    name: ClassVar[str] = "pytorch"
    title: ClassVar[str] = "PyTorch"
    keys: ClassVar[frozenset[str]] = frozenset(
        {"code", "extra_files", "model_data", "pytorch_version", "requirements_file"}
    )
    data_key: ClassVar[str] = "model_data"
    loader: ClassVar[str] = "mlflow.pytorch"
    runs_code: ClassVar[bool] = False
    members: ClassVar[tuple[str, ...]] = ("model.pt2",)

    def require_known(self, folder: Path, what: str) -> None:
        """Its one file says nothing of itself before it is read."""

    def state(self, model: Path, label: str) -> ArchivedState | None:
        """As ``archived_state`` reads it; UnsupportedModelError when the archive is not as it must be."""
        return archived_state(model, label)

    def classifier(self, model: Path, name: str, version: str) -> "Classifier":
        """As ``classifier_from_export`` reads it; UnsupportedModelError when the archive is not as it must be."""
        from attrail_explainers.model.loading import classifier_from_export  # noqa: PLC0415 - it loads torch

        return classifier_from_export(model, name, version)


FLAVOUR = PyTorchExport
