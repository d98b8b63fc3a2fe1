"""Bring maps to the grid on which they are compared."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

AT_ONCE = 256  # maps brought to the grid together: they may lie in a file that is larger than the memory


def to_grid(values: NDArray[np.float32], grid: int) -> NDArray[np.float64]:
    """Maps (N,H,W) averaged over cells of at most ``grid`` x ``grid``; smaller maps stay as they are.

    Exact area averages, so the mean of a map is kept. Values are not rescaled: only resolution is given up, because
    where the evidence is matters here and single pixels are noise.
    """
    height, width = values.shape[1:]
    return to_cells(values, min(height, grid), min(width, grid))


def to_cells(values: NDArray[Any], rows: int, columns: int) -> NDArray[np.float64]:
    """Maps (N,H,W) averaged over ``rows`` x ``columns`` cells, exact area averages; H and W may be smaller."""
    down, across = _cells(values.shape[1], rows), _cells(values.shape[2], columns)
    found = np.empty((len(values), rows, columns))
    for start in range(0, len(values), AT_ONCE):
        found[start : start + AT_ONCE] = down @ values[start : start + AT_ONCE].astype(np.float64) @ across.T
    return found


def _cells(size: int, cells: int) -> NDArray[np.float64]:
    """Weights (cells,size) with which pixels enter each cell; every row sums to one."""
    edges = np.linspace(0, size, cells + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return np.asarray(overlap.clip(0) * cells / size)
