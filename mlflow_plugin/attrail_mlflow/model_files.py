"""The digest of a registered version's files, read where the server keeps them."""

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

from mlflow.exceptions import MlflowException
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import append_to_uri_path, is_local_uri

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.file_digests import FileDigests
from attrail_mlflow.folder_digest import digest_files, digest_folder, digest_of_files

LARGE = 16 * 1024 * 1024  # bytes; to read more takes longer than other promotions should wait


class SlowFiles(MlflowException):
    """Files that are large or far away, asked for in haste: to be read where nobody waits, and asked for again.

    MLflow's kind of exception, because its sessions let only that pass unchanged.
    """

    def __init__(self, uri: str) -> None:
        super().__init__(f"the files at {uri} take long to read")
        self.uri = uri


@dataclass(frozen=True)
class ModelFiles:
    """Digests (``folder_digest``) of models' files at artifact URIs.

    Files on the server's own disk are hashed in place and remembered (``file_digests``); others are fetched for every
    promotion, since what MLflow's stores say of their content cannot be trusted.
    """

    digests: FileDigests = field(default_factory=FileDigests)
    fetched: dict[str, str] = field(default_factory=dict)

    def digest(self, uri: str, *, haste: bool = False) -> str:
        """The digest of the files at a URI; in haste, only if that is quick.

        Raises EvidenceError when they cannot be read, in haste SlowFiles when ``read`` must be called first.
        """
        try:
            folder = _local(uri)
            if folder is not None:
                return self._in_place(folder, uri, haste)
            if haste:
                raise SlowFiles(uri)
            return self.fetched.pop(uri, None) or _fetched(uri)
        except SlowFiles:
            raise
        except (MlflowException, OSError) as error:
            raise EvidenceError(f"the model's files at {uri} cannot be read: {error}") from error

    def read(self, uri: str) -> None:
        """Make the digest of slow files known; files that cannot be read stay unknown."""
        try:
            found = self.digest(uri)
        except EvidenceError:
            return
        if _local(uri) is None:
            self.fetched[uri] = found

    def _in_place(self, folder: Path, uri: str, haste: bool) -> str:
        left = LARGE

        def quick(path: Path) -> str:
            nonlocal left
            left -= self.digests.unread(path)
            if left < 0:
                raise SlowFiles(uri)
            return self.digests.digest(path)

        return digest_of_files(digest_files(folder, quick if haste else self.digests.digest))


def _fetched(uri: str) -> str:
    with tempfile.TemporaryDirectory(prefix="attrail-") as scratch:
        return digest_folder(Path(get_artifact_repository(_destination(uri)).download_artifacts("", scratch)))


def _local(uri: str) -> Path | None:
    """The folder on the server's own disk, None when the files are elsewhere."""
    found = _destination(uri)
    return Path(local_file_uri_to_path(found)) if is_local_uri(found, is_tracking_or_registry_uri=False) else None


def _destination(uri: str) -> str:
    """Where the files are that this server itself serves under an ``mlflow-artifacts:`` URI; other URIs as they are."""
    root = os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR)
    parts = urlparse(uri)
    if parts.scheme != "mlflow-artifacts" or not root:
        return uri
    if ".." in parts.path.split("/"):
        raise EvidenceError(f"{uri} leads out of the artifact store")
    return str(append_to_uri_path(root, parts.path.lstrip("/")))
