"""The manifest of an audit's files: the SHA-256 of each under its name, in ``manifest.json``."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from attrail_explainers.digest import digest_of_bytes
from attrail_explainers.errors import EvidenceError
from attrail_explainers.files.plain_file import read_plain
from attrail_mlflow.registry.folder_digest import file_digest

MANIFEST = "manifest.json"
STATEMENT_FILE = "statement.json"  # binds the manifest's digest, so it cannot be listed in it
UNLISTED = {MANIFEST, STATEMENT_FILE}


def write_manifest(folder: Path) -> Mapping[str, str]:
    """Write manifest.json with the sha256 of every file below ``folder`` and return it."""
    manifest = {name: file_digest(folder / name).removeprefix("sha256:") for name in _listed(folder)}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n")
    return manifest


def manifest_digest(folder: Path) -> str:
    """SHA-256 of manifest.json, and so of every file of the audit; EvidenceError when there is none."""
    return digest_of_bytes(_text(folder))


def require_manifest(folder: Path) -> Mapping[str, str]:
    """The manifest, after every file was held against it.

    Raises EvidenceError naming the first file, by name, that is missing, altered or not listed.
    """
    try:
        manifest = json.loads(_text(folder))
        stated = {str(name): str(digest) for name, digest in manifest.items()}
    except (ValueError, AttributeError, RecursionError) as error:
        raise EvidenceError(f"{MANIFEST} cannot be read: {error}") from error
    found = set(_listed(folder))
    for name in sorted(found | set(stated)):
        if name not in found:
            raise EvidenceError(f"the file {name!r} is missing; {MANIFEST} lists it")
        if name not in stated:
            raise EvidenceError(f"the file {name!r} was added: {MANIFEST} does not list it")
        if file_digest(folder / name) != f"sha256:{stated[name]}":
            raise EvidenceError(f"the file {name!r} was altered: its sha256 is not the one in {MANIFEST}")
    return stated


def _listed(folder: Path) -> Iterable[str]:
    """Names of all files but those that cannot be in the manifest; a link to elsewhere is no evidence."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise EvidenceError(f"the file {name!r} is a symbolic link: evidence is plain files")
        if path.is_file():
            if name not in UNLISTED:
                yield name
        elif not path.is_dir():
            raise EvidenceError(f"{name!r} is a pipe or a device: evidence is plain files")


def _text(folder: Path) -> bytes:
    try:
        return read_plain(folder / MANIFEST)
    except FileNotFoundError as error:
        raise EvidenceError(f"{MANIFEST} is missing") from error
    except OSError as error:
        raise EvidenceError(f"{MANIFEST} cannot be read: {error}") from error
