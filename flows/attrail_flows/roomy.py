"""Large arrays that do not fill the memory: they lie in files, and the system keeps in memory what is being used."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

IN_MEMORY = 64 * 2**20  # bytes; larger arrays lie in a file without a name, which ends with the process
DECODED = 256  # images decoded at once


def roomy(shape: tuple[int, ...], dtype: type[Any] = np.float32) -> NDArray[Any]:
    """An array to be filled, in memory or, when it is large, in a file of the temporary folder."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="attrail-") as file:  # what is mapped stays when the file is closed
        return np.memmap(file, dtype, "w+", shape=shape)


def decoded(paths: Sequence[Path], decode: Callable[[Sequence[Path]], NDArray[np.float32]]) -> NDArray[np.float32]:
    """Images (N,C,H,W) of files, decoded some at a time."""
    if len(paths) <= DECODED:
        return decode(paths)
    first = decode(paths[:DECODED])
    images = roomy((len(paths), *first.shape[1:]))
    images[:DECODED] = first
    for start in range(DECODED, len(paths), DECODED):
        images[start : start + DECODED] = decode(paths[start : start + DECODED])
    return images
