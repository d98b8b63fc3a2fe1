"""What safetensors files hold, read without loading any of it: an index in JSON, then the tensors' bytes."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model_files.export_archive import ArchivedState

LENGTH = 8  # bytes that say how long the index is, in little endian
LARGEST = 100_000_000  # bytes of an index, as the format's own readers have it
CHUNK = 2**20


def safetensors_state(files: Sequence[Path], label: str) -> ArchivedState:
    """The types and sizes of all tensors in ``files`` by name, and the digest of these and of their bytes.

    Raises UnsupportedModelError, which names the model by ``label``, for a file that is none (the format's
    specification: https://github.com/huggingface/safetensors).
    """
    tensors: dict[str, tuple[Any, tuple[Any, ...]]] = {}
    digests: dict[str, str] = {}
    for path in files:
        try:
            _read(path, tensors, digests)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise UnsupportedModelError(
                f"model {label}: its file {path.name} is no safetensors file ({excerpt(error)})"
            ) from error
    whole = hashlib.sha256()
    for name in sorted(tensors):
        whole.update(json.dumps([name, *tensors[name], digests[name]]).encode())
    return ArchivedState(tensors, f"sha256:{whole.hexdigest()}")


def _read(path: Path, tensors: dict[str, tuple[Any, tuple[Any, ...]]], digests: dict[str, str]) -> None:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        if length > min(LARGEST, path.stat().st_size - LENGTH):
            raise ValueError(f"its index has {length} bytes")
        index = json.loads(file.read(length))
        for name, facts in index.items():
            if name == "__metadata__":
                continue
            start, end = facts["data_offsets"]
            file.seek(LENGTH + length + start)
            tensors[name] = (facts["dtype"], tuple(facts["shape"]))
            digests[name] = _digest(file, end - start)


def _digest(file: Any, count: int) -> str:
    found = hashlib.sha256()
    while count > 0:
        block = file.read(min(CHUNK, count))
        if not block:
            raise ValueError("it is cut off")
        found.update(block)
        count -= len(block)
    return found.hexdigest()
