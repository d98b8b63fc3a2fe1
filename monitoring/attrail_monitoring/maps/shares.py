"""Shares of the evidence: maps divided by their absolute sum, so that a strong map counts no more than a faint one."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def shares(maps: Array) -> Array:
    """Shares (N,H*W) of maps (N,H,W): signs stay, absolute values of a row sum to 1, or to 0 where a map is all zero.

    For comparisons of where the evidence lies only: what is kept and shown is never rescaled.
    """
    flat = maps.reshape(len(maps), -1)
    mass = np.abs(flat).sum(axis=1, keepdims=True)
    return np.asarray(np.divide(flat, mass, out=np.zeros_like(flat), where=mass > 0))
