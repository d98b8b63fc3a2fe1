"""The attribution store: what was computed once for a model's weights, in MLflow, found again by what it depends on.

A file is kept under a key, the digest of everything its content depends on, so two computations of one key give the
same bytes and it does not matter whose are used. Files lie in runs that carry the weights' digest as a tag; a file
counts once its run carries a tag with its key and sha256, which is set after the upload: a file whose upload was cut
short is never seen. What is read is held against that sha256; nothing in it is ever executed (safetensors).
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.entities import RunStatus, RunTag
from mlflow.exceptions import MlflowException

from attrail_explainers.errors import EvidenceError, RegistryError
from attrail_mlflow.folder_digest import file_digest
from attrail_mlflow.registry import Registry

WEIGHTS = "attrail.attributions"  # tag of a run that holds attributions: the digest of the weights they are of
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

    def index(self, weights_digest: str) -> dict[str, list[Entry]]:
        """All complete files of a model's weights by their keys; of several under one key the oldest first.

        Raises RegistryError when MLflow cannot be asked.
        """
        client, entries, token = self.registry.client, dict[str, list[Entry]](), None
        try:
            experiment = client.get_experiment_by_name(self.experiment)
            while experiment is not None:
                runs = client.search_runs(
                    [experiment.experiment_id],
                    f"tags.`{WEIGHTS}` = '{weights_digest}'",
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
            raise RegistryError(f"kept attributions cannot be looked up in MLflow: {error}", transient=True) from error
        return entries

    def open(self, title: str, weights_digest: str, parent: str | None = None) -> str:
        """Begin a run for files of these weights, below the run ``parent`` if given; its id."""
        client = self.registry.client
        tags = {WEIGHTS: weights_digest} | ({PARENT: parent} if parent else {})
        try:
            found = client.get_experiment_by_name(self.experiment)
            experiment = found.experiment_id if found else client.create_experiment(self.experiment)
            return str(client.create_run(experiment, run_name=title, tags=tags).info.run_id)
        except MlflowException as error:
            raise RegistryError(f"no run for attributions can be started in MLflow: {error}", transient=True) from error

    def put(self, run_id: str, folder: Path, keys: Iterable[str]) -> list[Entry]:
        """Keep the files that lie below ``folder`` at their ``artifact_path``: upload them, then say they are complete.

        Raises RegistryError when MLflow does not keep them.
        """
        entries = [Entry(key, run_id, file_digest(folder / artifact_path(key))) for key in keys]
        client = self.registry.client
        try:
            for each in entries:
                client.log_artifact(run_id, str(folder / each.path), FOLDER)
            client.log_batch(run_id, tags=[RunTag(KEPT + _plain(each.key), each.sha256) for each in entries])
        except (MlflowException, OSError) as error:
            raise RegistryError(f"run {run_id}: MLflow did not keep attributions: {error}", transient=True) from error
        return entries

    def fetch(self, entry: Entry, folder: Path) -> Path:
        """A file, written below ``folder``; EvidenceError when it is missing or is not the one that was kept."""
        try:
            path = Path(download_artifacts(run_id=entry.run_id, artifact_path=entry.path, dst_path=str(folder)))
            found = file_digest(path)
        except (MlflowException, OSError) as error:
            raise EvidenceError(f"run {entry.run_id}: {entry.path} cannot be read: {error}") from error
        if found != entry.sha256:
            path.unlink()
            raise EvidenceError(
                f"run {entry.run_id}: {entry.path} is not the file that was kept there: its sha256 is "
                f"{found}, not {entry.sha256}"
            )
        return path

    def close(self, run_id: str) -> None:
        """Mark a run as finished. A killed one stays RUNNING; what is complete in it counts all the same."""
        try:
            self.registry.client.set_terminated(run_id, RunStatus.to_string(RunStatus.FINISHED))
        except (MlflowException, OSError) as error:
            logger.warning("run %s could not be marked finished: %s", run_id, error)


def _entries(run_id: str, tags: Mapping[str, str]) -> list[Entry]:
    return [
        Entry(f"sha256:{name.removeprefix(KEPT)}", run_id, value)
        for name, value in tags.items()
        if name.startswith(KEPT)
    ]


def _plain(key: str) -> str:
    return key.removeprefix("sha256:")
