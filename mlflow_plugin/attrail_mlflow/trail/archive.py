"""The container of a bundle: a zip file that has exactly one spelling.

Names in order, nothing compressed, no times, no comments. So equal files give equal bundles, no byte of a bundle means
nothing, and any unzip program opens it.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from attrail_explainers.errors import EvidenceError
from attrail_explainers.files.plain_file import open_plain

EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip file can hold
UNIX = 3
PLAIN_FILE = 0o100644 << 16
PIECE = 1024 * 1024


def pack(files: Mapping[str, Path], target: BinaryIO) -> None:
    """Write files, by their names in the bundle, as a container."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, EPOCH)
            info.create_system, info.external_attr = UNIX, PLAIN_FILE
            info.file_size = files[name].stat().st_size
            with archive.open(info, "w") as member, files[name].open("rb") as source:
                shutil.copyfileobj(source, member, PIECE)


def unpack(path: Path, folder: Path) -> dict[str, Path]:
    """Write a container's files below ``folder``: their paths by name.

    Raises EvidenceError when it is no zip file, a name would lead elsewhere or comes twice, or the container holds
    anything that ``pack`` would not have written.
    """
    try:
        with open_plain(path) as opened, zipfile.ZipFile(opened) as archive:
            _require_plain(archive, path)
            files = {info.filename: _extracted(archive, info, folder) for info in archive.infolist()}
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError, EOFError, RuntimeError) as error:
        raise EvidenceError(f"bundle {path} cannot be opened, it was cut or altered: {error}") from error
    _require_same_spelling(path, files)
    return files


def _require_plain(archive: zipfile.ZipFile, path: Path) -> None:
    """Raise EvidenceError unless it is safe to extract: plain names, uncompressed, no more bytes than the container."""
    names = [info.filename for info in archive.infolist()]
    for name in names:
        parts = PurePosixPath(name).parts
        if not name or name != "/".join(parts) or name.startswith("/") or ".." in parts or set(name) & set("\\:\0"):
            raise EvidenceError(f"bundle {path}: {name!r} is no name of a file in a bundle")
    if names != sorted(set(names)):
        raise EvidenceError(f"bundle {path}: its files are not in order, or one comes twice")
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise EvidenceError(f"bundle {path}: a file in it is compressed, attrail compresses none")
    if sum(info.file_size for info in archive.infolist()) > path.stat().st_size:
        raise EvidenceError(f"bundle {path}: its files claim more bytes than it has")


def _extracted(archive: zipfile.ZipFile, info: zipfile.ZipInfo, folder: Path) -> Path:
    target = folder / info.filename
    target.parent.mkdir(parents=True, exist_ok=True)
    with archive.open(info) as member, target.open("xb") as file:
        shutil.copyfileobj(member, file, PIECE)
    return target


def _require_same_spelling(path: Path, files: Mapping[str, Path]) -> None:
    """Raise EvidenceError unless packing the files again gives the same bytes: headers and gaps hold nothing else."""
    with tempfile.TemporaryFile() as again, open_plain(path) as file:
        pack(files, again)
        again.seek(0)
        for number, (one, other) in enumerate(zip(_pieces(file), _pieces(again), strict=False)):
            if one != other:
                byte = next((i for i, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
                place = number * PIECE + (min(len(one), len(other)) if byte is None else byte)
                raise EvidenceError(f"bundle {path}: byte {place} of the container was altered, added or removed")
        if path.stat().st_size != again.tell():
            raise EvidenceError(f"bundle {path}: bytes were added to the container or removed from it")


def _pieces(file: BinaryIO) -> Iterable[bytes]:
    return iter(lambda: file.read(PIECE), b"")
