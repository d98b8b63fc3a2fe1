"""The digest of a registered version's files, read where the server keeps them."""

import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlparse

from mlflow.exceptions import MlflowException
from mlflow.server.constants import ARTIFACTS_DESTINATION_ENV_VAR
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import append_to_uri_path, is_local_uri

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.registry.digest_cache import FileDigests
from attrail_mlflow.registry.folder_digest import digest_files, digest_folder, digest_of_files

LARGE = 16 * 1024 * 1024  # bytes; to read more takes longer than other promotions should wait
AMBIGUOUS = re.compile(r"[%?#;\\\s]|(^|/)\.{1,2}(/|$)")  # clients decode some of these when they fetch, and not others

Ahead = Mapping[str, str | EvidenceError]  # by URI, the digest of files that were read ahead, or why there is none


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

    Files on the server's own disk are hashed in place and remembered (``digest_cache``); others are fetched for every
    promotion, since what MLflow's stores say of their content cannot be trusted.
    """

    digests: FileDigests = field(default_factory=FileDigests)

    def digest(self, uri: str, ahead: Ahead | None = None) -> str:
        """The digest of the files at a URI, whatever it takes; or, with ``ahead``, only if that is quick.

        ``ahead`` is what ``read_ahead`` gave for this very request: an older reading would let files pass that were
        exchanged since. Raises EvidenceError when the files cannot be read, SlowFiles when they must be read ahead.
        """
        try:
            folder = _local(uri)
            if folder is not None:
                return self._in_place(folder, uri, haste=ahead is not None and uri not in ahead)
            return _fetched(uri) if ahead is None else _given(uri, ahead)
        except SlowFiles:
            raise
        except (MlflowException, OSError) as error:
            raise EvidenceError(f"the model's files at {uri} cannot be read: {error}") from error

    def read_ahead(self, uri: str) -> str | EvidenceError:
        """The digest of slow files, or why there is none."""
        try:
            return self.digest(uri)
        except EvidenceError as error:
            return error

    def _in_place(self, folder: Path, uri: str, haste: bool) -> str:
        left = LARGE

        def quick(path: Path) -> str:
            nonlocal left
            left -= self.digests.unread(path)
            if left < 0:
                raise SlowFiles(uri)
            return self.digests.digest(path)

        return digest_of_files(digest_files(folder, quick if haste else self.digests.digest))


def _given(uri: str, ahead: Ahead) -> str:
    if uri not in ahead:
        raise SlowFiles(uri)
    found = ahead[uri]
    if isinstance(found, EvidenceError):
        raise found
    return found


def _fetched(uri: str) -> str:
    with tempfile.TemporaryDirectory(prefix="attrail-") as scratch:
        return digest_folder(Path(get_artifact_repository(_destination(uri)).download_artifacts("", scratch)))


def _local(uri: str) -> Path | None:
    """The folder on the server's own disk, None when the files are elsewhere."""
    found = _destination(uri)
    return Path(local_file_uri_to_path(found)) if is_local_uri(found, is_tracking_or_registry_uri=False) else None


def _destination(uri: str) -> str:
    """Where the files are that this server itself serves under an ``mlflow-artifacts:`` URI; other URIs as they are.

    The gate must hash what clients will fetch. They fetch from the host in a URI, if there is one; and a name with
    ``%64`` in it is listed as it is written and fetched as ``d``. Such URIs have no digest.
    """
    root = os.environ.get(ARTIFACTS_DESTINATION_ENV_VAR)
    parts = urlparse(uri)
    if parts.scheme != "mlflow-artifacts" or not root:
        return uri
    if parts.netloc:
        raise EvidenceError(f"{uri} names a server of its own: only files that this server keeps can be hashed here")
    if AMBIGUOUS.search(uri):
        raise EvidenceError(f"{uri} can be read in two ways: give a source without %, ?, #, ;, \\, blanks, . and ..")
    return str(append_to_uri_path(root, parts.path.lstrip("/")))
