"""Large arrays that do not fill the memory: they lie in files, and the system keeps in memory what is being used."""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.files.picture_source import Picture

IN_MEMORY = 64 * 2**20  # bytes; larger arrays lie in a file without a name, which ends with the process
DECODED = 256  # images decoded at once


def large_array(shape: tuple[int, ...], dtype: type[Any] = np.float32) -> NDArray[Any]:
    """An array to be filled, in memory or, when it is large, in a file of the temporary folder."""
    if int(np.prod(shape)) * np.dtype(dtype).itemsize <= IN_MEMORY:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile(prefix="attrail-") as file:  # what is mapped stays when the file is closed
        return np.memmap(file, dtype, "w+", shape=shape)


def decoded(
    pictures: Sequence[Picture], decode: Callable[[Sequence[Picture]], NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Images (N,C,H,W) of pictures, decoded some at a time."""
    if len(pictures) <= DECODED:
        return decode(pictures)
    first = decode(pictures[:DECODED])
    images = large_array((len(pictures), *first.shape[1:]))
    images[:DECODED] = first
    for start in range(DECODED, len(pictures), DECODED):
        images[start : start + DECODED] = decode(pictures[start : start + DECODED])
    return images
