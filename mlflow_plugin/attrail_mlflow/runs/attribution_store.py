"""The attribution store: what was computed once for a model's weights, in MLflow, found again by what it depends on.

A file is kept under a key, the digest of everything its content depends on, so two computations of one key give the
same bytes and it does not matter whose are used. Files lie in runs that carry the weights' digest as a tag; a file
counts once its run carries a tag with its key and sha256, which is set after the upload: a file whose upload was cut
short is never seen. What is read is held against that sha256; nothing in it is ever executed (safetensors).
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mlflow.entities import RunTag
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from attrail_explainers.errors import EvidenceError, RegistryError
from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.experiments import experiment_id, find_experiment
from attrail_mlflow.registry.folder_digest import file_digest
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.retries import patiently
from attrail_mlflow.registry.searching import runs_with
from attrail_mlflow.registry.tags import ATTRIBUTIONS_TAG
from attrail_mlflow.runs.ending import finishing

KEPT = "attrail.kept."  # with a key, the tag that says that a file is complete; its value is the file's sha256
PARENT = "mlflow.parentRunId"
FOLDER = "attributions"
PAGE = 200  # runs looked at in one request


@dataclass(frozen=True)
class Entry:
    """A complete file: its key, the run that holds it, and its sha256."""

    key: str
    run_id: str
    sha256: str

    @property
    def path(self) -> str:
        """Where the file is among its run's artifacts."""
        return artifact_path(self.key)


def artifact_path(key: str) -> str:
    """Where the file of a key is among its run's artifacts."""
    return f"{FOLDER}/{_plain(key)}.safetensors"


@dataclass(frozen=True)
class AttributionStore:
    """The files of one experiment."""

    registry: Registry
    experiment: str

    @property
    def place(self) -> str:
        """What a process on another machine finds it by, in the same registry."""
        return self.experiment

    def index(self, weights_digest: str) -> dict[str, list[Entry]]:
        """All complete files of a model's weights by their keys; of several under one key the oldest first.

        Raises RegistryError when MLflow cannot be asked.
        """
        client, entries = self.registry.client, dict[str, list[Entry]]()
        with asking("kept attributions cannot be looked up in MLflow"):
            experiment = find_experiment(client, self.experiment)
            if experiment is None:
                return {}
            for run in runs_with(client, experiment.experiment_id, {ATTRIBUTIONS_TAG: weights_digest}, "ASC", PAGE):
                for entry in _entries(run.info.run_id, run.data.tags):
                    entries.setdefault(entry.key, []).append(entry)
        return entries

    def open(self, title: str, weights_digest: str, parent: str | None = None) -> str:
        """Begin a run for files of these weights, below the run ``parent`` if given; its id."""
        client = self.registry.client
        tags = {ATTRIBUTIONS_TAG: weights_digest} | ({PARENT: parent} if parent else {})
        with asking("no run for attributions can be started in MLflow"):
            experiment = experiment_id(client, self.experiment)
            return str(client.create_run(experiment, run_name=title, tags=tags).info.run_id)

    def put(self, run_id: str, folder: Path, keys: Iterable[str]) -> list[Entry]:
        """Keep the files that lie below ``folder`` at their ``artifact_path``: upload them, then say they are complete.

        What took long to compute is not given up while MLflow is away for a while. Raises RegistryError when it stays
        away or refuses.
        """
        entries = [Entry(key, run_id, file_digest(folder / artifact_path(key))) for key in keys]
        patiently(lambda: self._upload(run_id, folder, entries))
        return entries

    def fetch(self, entry: Entry, folder: Path) -> Path:
        """A file, written below ``folder``; EvidenceError when it is missing or is not the one that was kept.

        Raises RegistryError when MLflow stays away: that a file cannot be had now does not mean that it is missing.
        """
        try:
            path = self._downloaded(entry, folder)
        except RegistryError:
            patiently(lambda: self._await(entry.run_id))
            try:
                path = self._downloaded(entry, folder)
            except RegistryError as error:
                raise EvidenceError(str(error)) from error
        found = file_digest(path)
        if found != entry.sha256:
            path.unlink()
            raise EvidenceError(
                f"run {entry.run_id}: {entry.path} is not the file that was kept there: its sha256 is "
                f"{found}, not {entry.sha256}"
            )
        return path

    def finishing(self, run_id: str) -> AbstractContextManager[None]:
        """Mark a run of this store as ``ending.finishing`` does when the block ends."""
        return finishing(self.registry, run_id)

    def _upload(self, run_id: str, folder: Path, entries: Iterable[Entry]) -> None:
        client = self.registry.client
        with asking(f"run {run_id}: MLflow did not keep attributions"):
            for each in entries:
                client.log_artifact(run_id, str(folder / each.path), FOLDER)
            client.log_batch(run_id, tags=[RunTag(KEPT + _plain(each.key), each.sha256) for each in entries])

    def _downloaded(self, entry: Entry, folder: Path) -> Path:
        with asking(f"run {entry.run_id}: {entry.path} cannot be read"):
            folder.mkdir(parents=True, exist_ok=True)
            return Path(_artifacts(self.registry, entry.run_id).download_artifacts(entry.path, str(folder)))

    def _await(self, run_id: str) -> None:
        """Raise RegistryError unless MLflow answers."""
        with asking("kept attributions cannot be read from MLflow"):
            self.registry.client.get_run(run_id)


@lru_cache(maxsize=64)
def _artifacts(registry: Registry, run_id: str) -> ArtifactRepository:
    """A run's files, whose place is asked for once: ``mlflow.artifacts`` reads the run, tags and all, for each file."""
    location = registry.client.get_run(run_id).info.artifact_uri
    return get_artifact_repository(location, tracking_uri=registry.tracking_uri)


def _entries(run_id: str, tags: Mapping[str, str]) -> list[Entry]:
    return [
        Entry(f"sha256:{name.removeprefix(KEPT)}", run_id, value)
        for name, value in tags.items()
        if name.startswith(KEPT)
    ]


def _plain(key: str) -> str:
    return key.removeprefix("sha256:")
