"""The digest of a model's files: which bytes a verdict is about, and which bytes are promoted.

MLflow keeps no digest of a model's content, a version's files can be replaced after it was registered, and pt2 archives
of equal weights differ in their bytes. So a statement binds both: the weights by value and the files by this digest.
"""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import EvidenceError

WRITTEN_BY_DOWNLOADS = "registered_model_meta"  # MLflow writes it beside MLmodel whenever a models:/ URI is read


def digest_folder(folder: Path) -> str:
    """Digest of every file below a model's folder, its names and bytes, whatever the order and the times.

    Only ``registered_model_meta`` at the top is left out: MLflow writes it itself on every download, in place when the
    artifact root is a local folder. Requirements and examples count: they are run and trusted like the weights.
    Raises EvidenceError for a symbolic link or anything else that is no plain file: its bytes could be elsewhere.
    """
    return digest_of_files(digest_files(folder))


def digest_of_files(files: Mapping[str, str]) -> str:
    """Digest of a model's files by name: the SHA-256 of each, as ``digest_files`` gives them."""
    return digest_of({"format": "attrail.files/1", "files": dict(files)})


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces; the last link of the path is not followed."""
    with os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(folder: Path, digest: Callable[[Path], str] = file_digest) -> dict[str, str]:
    """SHA-256 of every file below a folder by its name with slashes; see ``digest_folder`` for what is left out.

    ``digest`` hashes one file; the gate gives one that remembers (``digest_cache``).
    """
    if not folder.is_dir() or folder.is_symlink():
        raise EvidenceError(f"{folder} is no folder with a model's files")
    files = {name: digest(folder / name) for name in names_below(folder) if name != WRITTEN_BY_DOWNLOADS}
    if not files:
        raise EvidenceError(f"{folder} holds no files: a model was expected")
    return files


def names_below(folder: Path, below: str = "") -> Iterator[str]:
    """The name, with slashes, of every file below a folder, in order; ``below`` is put in front of all of them.

    Raises EvidenceError for a link, a pipe or anything else that is no plain file: reading it could lead elsewhere, or
    never end.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            name = below + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from names_below(Path(entry.path), f"{name}/")
            elif entry.is_file(follow_symlinks=False):
                yield name
            else:
                raise EvidenceError(f"{name!r} below {folder} is no plain file; replace links by what they point to")
