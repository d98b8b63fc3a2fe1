"""The archive of an exported program (.pt2): checked member by member, and copied without what torch would unpickle.

``torch.export.load`` unpickles some members, runs code that others bring, and finds members whatever their case. So it
gets a copy that holds the members checked here and nothing else. Names are those of ``torch.export.pt2_archive``.
"""

import contextlib
import hashlib
import json
import re
import shutil
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model_files.export_program import require_plain_program

PROGRAM = "models/model.json"
SAMPLES = "data/sample_inputs/model.pt"  # a pickle; torch needs none to load a program, and an empty one is no pickle
WEIGHTS = "data/weights/"
TENSORS = {WEIGHTS: "model_weights_config.json", "data/constants/": "model_constants_config.json"}
FIXED = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
REQUIRED = (PROGRAM, *FIXED, *(folder + config for folder, config in TENSORS.items()), ".data/version")
KNOWN = re.compile(
    r"archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/weights/(weight_(0|[1-9][0-9]*)|model_weights_config\.json)"
    r"|data/constants/(tensor_(0|[1-9][0-9]*)|model_constants_config\.json)|data/sample_inputs/model\.pt"
)
ROOT = re.compile(r"(?!\.{0,2}/)[^/\\:\x00-\x1f]+/")  # what the file was called when it was written
OLD = "serialized_exported_program.json"  # as torch up to 2.6 wrote them
IN_MEMORY = ("dtype", "sizes", "strides", "storage_offset")  # what its bytes mean
PIECE = 1024 * 1024
LOG_AGAIN = "log the model again with mlflow.pytorch.log_model"


@dataclass(frozen=True)
class ArchivedState:
    """What an archive says of its tensors: type and sizes by name, and the ``digest`` of these and of their bytes."""

    tensors: Mapping[str, tuple[Any, tuple[Any, ...]]]
    digest: str


def copy_checked(archive: Path, target: Path, label: str) -> str:
    """Copy an archive's members to ``target``, its pickled sample inputs emptied: the torch version that exported it.

    Raises UnsupportedModelError, which names the model by ``label`` and the first member that is damaged, missing,
    there twice or under another spelling, packed otherwise than torch packs, pickled, or none that torch writes for a
    program; and what ``require_plain_program`` raises.
    """
    with _opened(archive, label) as found:
        version = found.check()
        found.copy(target)
    return version


def archived_state(archive: Path, label: str) -> ArchivedState:
    """The names, types and sizes of an archive's tensors, and the digest of their bytes; none of them is loaded.

    The same numbers laid out otherwise in memory are other bytes. Raises what ``copy_checked`` raises.
    """
    with _opened(archive, label) as found:
        found.check()
        return found.state()


@contextlib.contextmanager
def _opened(archive: Path, label: str) -> Iterator["_Archive"]:
    try:
        with zipfile.ZipFile(archive) as source:
            within = min((each.header_offset for each in source.infolist()), default=0) > 0
            if within and not any(each.endswith(PROGRAM) for each in source.namelist()):
                raise zipfile.BadZipFile("its table of contents is that of a part of it")
            yield _Archive(source, label, archive.stat().st_size)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        raise UnsupportedModelError(
            f"model {label}: its archive {archive.name} is damaged, or none that torch.export.save wrote ({error}); "
            f"{LOG_AGAIN}"
        ) from error


@dataclass(frozen=True)
class _Archive:
    source: zipfile.ZipFile
    label: str
    size: int

    def check(self) -> str:
        self._require_members()
        for folder, config in TENSORS.items():
            self._require_tensors(folder, self._json(folder + config))
        program = self._json(PROGRAM)
        require_plain_program(program, self.label)
        return str(program.get("torch_version", "unknown"))

    def copy(self, target: Path) -> None:
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as copied:
            for info in self.source.infolist():
                with copied.open(zipfile.ZipInfo(info.filename), "w", force_zip64=True) as member:
                    if info.filename != self._root + SAMPLES:
                        with self.source.open(info) as original:
                            shutil.copyfileobj(original, member, PIECE)

    def state(self) -> ArchivedState:
        entries = self._json(WEIGHTS + TENSORS[WEIGHTS])["config"]
        tensors = {name: self._tensor(name, entry["tensor_meta"]) for name, entry in sorted(entries.items())}
        held = {each: self._digest(each) for each in {entry["path_name"] for entry in entries.values()}}
        bytes_ = {
            name: [*(entry["tensor_meta"].get(key) for key in IN_MEMORY), held[entry["path_name"]]]
            for name, entry in entries.items()
        }
        return ArchivedState(tensors, digest_of(bytes_))

    def _tensor(self, name: str, meta: Mapping[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        """The type of a tensor, as torch numbers types, and its sizes."""
        sizes = meta.get("sizes")
        if not isinstance(sizes, list) or not all(isinstance(each, dict) for each in sizes):
            raise self._refused(f"does not say how large {name!r} is")
        return meta.get("dtype"), tuple(each.get("as_int") for each in sizes)

    def _digest(self, weight: str) -> str:
        digest = hashlib.sha256()
        with self.source.open(self._root + WEIGHTS + weight) as file:
            while piece := file.read(PIECE):
                digest.update(piece)
        return digest.hexdigest()

    @property
    def _root(self) -> str:
        """Every member lies below one folder, whose name is free."""
        return self.source.infolist()[0].filename.partition("/")[0] + "/"

    def _names(self) -> Iterator[str]:
        """The members' names below the root; one outside it as it is."""
        return (info.filename.removeprefix(self._root) for info in self.source.infolist())

    def _require_members(self) -> None:
        if not self.source.infolist():
            raise self._refused("holds no members")
        if not ROOT.fullmatch(self._root):
            raise self._refused(f"has the folder {self._root!r}, which is no name of one")
        names = Counter(self._names())
        if OLD in names:
            raise self._refused("has the layout of torch 2.6 or older, whose weights are pickled")
        for name, times in names.items():
            if not KNOWN.fullmatch(name):
                raise self._refused(f"holds the member {name!r}, which torch.export.save writes for no plain program")
            if times > 1:
                raise self._refused(f"holds the member {name!r} {times} times")
        for info in self.source.infolist():
            self._require_plain(info)
        for name in REQUIRED:
            if name not in names:
                raise self._refused(f"lacks the member {name!r}")
        for name, content in FIXED.items():
            if self._read(name) != content:
                raise self._refused(f"says {excerpt(self._read(name))} in {name}, expected {content!r}")

    def _require_plain(self, info: zipfile.ZipInfo) -> None:
        if not info.filename.startswith(self._root):
            raise self._refused(f"holds the member {info.filename!r} outside its folder {self._root!r}")
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.file_size != info.compress_size:
            raise self._refused(f"holds the member {info.filename!r} compressed or encrypted, torch does neither")
        if info.file_size > self.size:
            raise self._refused(f"claims more bytes for {info.filename!r} than it has")

    def _require_tensors(self, folder: str, config: Mapping[str, Any]) -> None:
        """Every tensor is kept as plain bytes in a member of its own folder, and no member is there for nothing."""
        entries = config.get("config")
        if not isinstance(entries, dict) or not all(isinstance(each, dict) for each in entries.values()):
            raise self._refused(f"has no list of tensors in {folder}{TENSORS[folder]}")
        for name, entry in entries.items():
            if entry.get("use_pickle") is not False:
                raise self._refused(f"keeps {name!r} as a pickle, which could run any code when it is loaded")
            if not isinstance(entry.get("tensor_meta"), dict):
                raise self._refused(f"keeps {name!r} as an object, not as a tensor")
        named = {f"{folder}{entry.get('path_name')}" for entry in entries.values()}
        held = {name for name in self._names() if name.startswith(folder) and not name.endswith(".json")}
        if named != held:
            raise self._refused(f"says other members below {folder} than it has: {sorted(named ^ held)[0]!r}")

    def _json(self, name: str) -> Mapping[str, Any]:
        try:
            found = json.loads(self._read(name))
        except (ValueError, RecursionError) as error:
            raise self._refused(f"holds no JSON in {name} ({error})") from error
        if not isinstance(found, dict):
            raise self._refused(f"holds no table in {name}")
        return found

    def _read(self, name: str) -> bytes:
        return self.source.read(self._root + name)

    def _refused(self, what: str) -> UnsupportedModelError:
        return UnsupportedModelError(f"model {self.label}: its pt2 archive {what}; {LOG_AGAIN}")
