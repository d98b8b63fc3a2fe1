"""The attribution store: what was computed once for a model's weights, in MLflow, found again by what it depends on.

A file is kept under a key, the digest of everything its content depends on, so two computations of one key give the
same bytes and it does not matter whose are used. Files lie in runs that carry the weights' digest as a tag; a file
counts once its run carries a tag with its key and sha256, which is set after the upload: a file whose upload was cut
short is never seen. What is read is held against that sha256; nothing in it is ever executed (safetensors).
"""

import contextlib
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mlflow.entities import RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.registry.errors import reason, registry_error
from attrail_mlflow.registry.experiments import experiment_id, find_experiment
from attrail_mlflow.registry.folder_digest import file_digest
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.retries import patiently
from attrail_mlflow.registry.tags import ATTRIBUTIONS_TAG

KEPT = "attrail.kept."  # with a key, the tag that says that a file is complete; its value is the file's sha256
PARENT = "mlflow.parentRunId"
FOLDER = "attributions"
PAGE = 200  # runs looked at in one request

logger = logging.getLogger("attrail.store")


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
        client, entries, token = self.registry.client, dict[str, list[Entry]](), None
        try:
            experiment = find_experiment(client, self.experiment)
            while experiment is not None:
                runs = client.search_runs(
                    [experiment.experiment_id],
                    f"tags.`{ATTRIBUTIONS_TAG}` = '{weights_digest}'",
                    order_by=["attributes.start_time ASC"],
                    max_results=PAGE,
                    page_token=token,
                )
                for run in runs:
                    for entry in _entries(run.info.run_id, run.data.tags):
                        entries.setdefault(entry.key, []).append(entry)
                token = runs.token
                if not token:
                    break
        except MlflowException as error:
            raise registry_error("kept attributions cannot be looked up in MLflow", error) from error
        return entries

    def open(self, title: str, weights_digest: str, parent: str | None = None) -> str:
        """Begin a run for files of these weights, below the run ``parent`` if given; its id."""
        client = self.registry.client
        tags = {ATTRIBUTIONS_TAG: weights_digest} | ({PARENT: parent} if parent else {})
        try:
            experiment = experiment_id(client, self.experiment)
            return str(client.create_run(experiment, run_name=title, tags=tags).info.run_id)
        except MlflowException as error:
            raise registry_error("no run for attributions can be started in MLflow", error) from error

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
        except (MlflowException, OSError):
            patiently(lambda: self._await(entry.run_id))
            path = self._fetched(entry, folder)
        found = file_digest(path)
        if found != entry.sha256:
            path.unlink()
            raise EvidenceError(
                f"run {entry.run_id}: {entry.path} is not the file that was kept there: its sha256 is "
                f"{found}, not {entry.sha256}"
            )
        return path

    @contextlib.contextmanager
    def finishing(self, run_id: str) -> Iterator[None]:
        """Mark a run FINISHED when the block ends, FAILED when it raises; killed, it stays RUNNING.

        What is complete in it counts in any case.
        """
        try:
            yield
        except BaseException:
            self._close(run_id, RunStatus.FAILED)
            raise
        self._close(run_id, RunStatus.FINISHED)

    def _upload(self, run_id: str, folder: Path, entries: Iterable[Entry]) -> None:
        client = self.registry.client
        try:
            for each in entries:
                client.log_artifact(run_id, str(folder / each.path), FOLDER)
            client.log_batch(run_id, tags=[RunTag(KEPT + _plain(each.key), each.sha256) for each in entries])
        except (MlflowException, OSError) as error:
            raise registry_error(f"run {run_id}: MLflow did not keep attributions", error) from error

    def _downloaded(self, entry: Entry, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        return Path(_artifacts(self.registry, entry.run_id).download_artifacts(entry.path, str(folder)))

    def _fetched(self, entry: Entry, folder: Path) -> Path:
        try:
            return self._downloaded(entry, folder)
        except (MlflowException, OSError) as error:
            raise EvidenceError(f"run {entry.run_id}: {entry.path} cannot be read: {reason(error)}") from error

    def _await(self, run_id: str) -> None:
        """Raise RegistryError unless MLflow answers."""
        try:
            self.registry.client.get_run(run_id)
        except MlflowException as error:
            raise registry_error("kept attributions cannot be read from MLflow", error) from error

    def _close(self, run_id: str, status: int) -> None:
        try:
            self.registry.client.set_terminated(run_id, RunStatus.to_string(status))
        except (MlflowException, OSError) as error:
            logger.warning("run %s could not be marked as ended: %s", run_id, error)


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
