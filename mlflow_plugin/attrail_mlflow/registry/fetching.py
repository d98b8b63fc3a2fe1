"""Fetch files; of a model's, look at names before bytes: a link or a pipe in a local store would be followed."""

import contextlib
import re
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.registry.folder_digest import names_below
from attrail_mlflow.registry.mlmodel_file import LARGEST

VERSION = re.compile(r"models:/(?P<name>[^/]+)/(?P<version>[0-9]+)")


@contextlib.contextmanager
def fetched(uri: str) -> Iterator[Path]:
    """The file at an artifact URI, in a folder that is gone after the block.

    Raises MlflowException and OSError when it cannot be fetched.
    """
    with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
        yield Path(download_artifacts(artifact_uri=uri, dst_path=folder))


def fetch_model(uri: str, folder: Path) -> Path:
    """The folder, in ``folder``, that has the files at a ``models:/`` URI.

    Raises EvidenceError for a link or a pipe among them, MlflowException and OSError when they cannot be fetched.
    """
    return Path(_repository(uri).download_artifacts("", str(folder)))


def fetch_small(uri: str, names: Collection[str], folder: Path) -> None:
    """Put files of a ``models:/`` URI, by their names, into a folder, those that there are; raises as ``fetch_model``.

    A larger file than any MLmodel is not fetched: EvidenceError says so.
    """
    repository = _repository(uri)
    for below in {name.rpartition("/")[0] for name in names}:
        for each in repository.list_artifacts(below):
            if each.path in names and (each.file_size or 0) > LARGEST:
                raise EvidenceError(f"its {each.path} file has {each.file_size} bytes, more than {LARGEST}")
            if each.path in names and not each.is_dir:
                repository.download_artifacts(each.path, str(folder))


def listed(uri: str) -> set[str]:
    """The names, with slashes, of all files at a ``models:/`` URI; raises what ``fetch_model`` raises."""
    return set(_names(_repository(uri), ""))


def _names(repository: ArtifactRepository, below: str) -> Iterator[str]:
    for each in repository.list_artifacts(below):
        if each.is_dir:
            yield from _names(repository, each.path)
        else:
            yield each.path


def _place(uri: str) -> str:
    """Where the files are. MLflow takes what follows a ``?`` in a name for a query: it is asked by name for those."""
    found = VERSION.fullmatch(uri)
    if found is None or urlsplit(uri, allow_fragments=False).path == uri.removeprefix("models:"):
        return uri
    return str(MlflowClient().get_model_version_download_uri(found["name"], found["version"]))


def _repository(uri: str) -> ArtifactRepository:
    repository = get_artifact_repository(_place(uri))
    local = getattr(repository, "repo", repository)
    if isinstance(local, LocalArtifactRepository) and Path(local.artifact_dir).is_dir():
        list(names_below(Path(local.artifact_dir)))
    return repository
