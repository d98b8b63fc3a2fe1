"""SHA-256 digests of values: the identity under which attrail compares and keeps things."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def digest_of(value: Mapping[str, Any]) -> str:
    """Digest of a JSON-able mapping: sorted keys, no spaces, NaN refused, ``sha256:`` in front."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return digest_of_bytes(text.encode())


def digest_of_bytes(content: bytes) -> str:
    """SHA-256 of bytes, ``sha256:`` in front."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def digest_of_arrays(arrays: Iterable[tuple[str, NDArray[Any]]]) -> str:
    """Digest of named arrays: name, dtype, shape and little-endian C-order bytes, in the given order."""
    digest = hashlib.sha256()
    for name, array in arrays:
        plain = np.asarray(array, order="C")
        plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{name}\0{plain.dtype.str}\0{plain.shape}\0".encode())
        digest.update(plain.reshape(-1).view(np.uint8).data)  # as bytes, but not as a copy of them
    return "sha256:" + digest.hexdigest()


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def seed_of(*parts: object) -> int:
    """A 64-bit seed from names and numbers, so that a draw depends on *what* it is for, never on its turn."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
