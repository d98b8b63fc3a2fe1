"""A store that keeps nothing in MLflow: results lie in a folder until they are read."""

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from attrail_mlflow.registry.folder_digest import file_digest
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.attribution_store import AttributionStore, Entry, artifact_path

NO_RUN = "none"  # what stands for the id of the run that holds a file


@dataclass(frozen=True)
class FolderStore:
    """What ``AttributionStore`` is to shards, in a folder of this machine."""

    folder: Path

    @property
    def place(self) -> Path:
        """What ``store_at`` finds it by, in any process of this machine."""
        return self.folder

    def index(self, weights_digest: str) -> dict[str, list[Entry]]:
        """Nothing: what was read is gone."""
        return {}

    def open(self, title: str, weights_digest: str, parent: str | None = None) -> str:
        """What stands for a run's id."""
        return NO_RUN

    def finishing(self, run_id: str) -> contextlib.AbstractContextManager[None]:
        """A block at whose end there is nothing to be done."""
        return contextlib.nullcontext()

    def put(self, run_id: str, folder: Path, keys: Iterable[str]) -> list[Entry]:
        """Take the files that lie below ``folder`` at their ``artifact_path``."""
        entries = [Entry(key, run_id, file_digest(folder / artifact_path(key))) for key in keys]
        for each in entries:
            shutil.move(folder / each.path, self._file(each))
        return entries

    def fetch(self, entry: Entry, folder: Path) -> Path:
        """A file; whoever has read it removes it."""
        return self._file(entry)

    def _file(self, entry: Entry) -> Path:
        return self.folder / Path(entry.path).name


Store = AttributionStore | FolderStore


def store_at(registry: Registry, place: str | Path) -> Store:
    """The store with this ``place``: an experiment's name, or a folder's path."""
    return FolderStore(place) if isinstance(place, Path) else AttributionStore(registry, place)
