"""PyTorch modules as pickles, which can run any code: loaded where the policy allows it."""

import importlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from attrail_explainers.errors import RegistryError
from attrail_mlflow.flavours.pytorch_pt2 import PyTorchExport

if TYPE_CHECKING:
    from attrail_explainers.model.classifier import Classifier
    from attrail_explainers.model_files.export_archive import ArchivedState

PICKLED_BY = "pickle_module_info.txt"
PICKLE_MODULES = {"mlflow.pytorch.pickle_module", "pickle", "cloudpickle"}


class PyTorchPickle(PyTorchExport):
    """What ``mlflow.pytorch.log_model`` writes with ``serialization_format="pickle"``."""

    runs_code: ClassVar[bool] = True
    members: ClassVar[tuple[str, ...]] = ("{data}/model.pth", f"{{data}}/{PICKLED_BY}")

    def require_known(self, folder: Path, data: str, what: str) -> None:
        """It was pickled by one of ``PICKLE_MODULES``, or RegistryError says by which."""
        pickler = _pickler(folder / data)
        if pickler not in PICKLE_MODULES:
            known = ", ".join(sorted(PICKLE_MODULES))
            raise RegistryError(f"{what} was pickled by the module {pickler!r}, known are {known}")

    def inside(self, names: Collection[str]) -> Mapping[str, str]:
        """None: they run code."""
        return {}

    def state(self, model: Path, label: str) -> "ArchivedState | None":
        """None: a pickle's tensors are known when it was loaded."""
        return None

    def classifier(self, model: Path, name: str, version: str) -> "Classifier":
        """As ``classifier_from_pickle`` reads it; UnsupportedModelError when its code is not installed here."""
        from attrail_explainers.model.loading import classifier_from_pickle  # noqa: PLC0415 - it loads torch

        return classifier_from_pickle(model, importlib.import_module(_pickler(model.parent)), name, version)


def _pickler(folder: Path) -> str:
    return (folder / PICKLED_BY).read_bytes()[:200].decode("utf-8", errors="replace").strip()


FLAVOUR = PyTorchPickle
