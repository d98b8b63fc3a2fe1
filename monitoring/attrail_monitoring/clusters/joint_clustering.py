"""Joint clustering: one set of clusters for the maps of all versions, so that no version decides what they are."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage

Array = NDArray[np.floating]
Labels = NDArray[np.int64]
MOST = 16  # clusters
LANDMARKS = 2000  # maps that are clustered, of all versions together; the others join the nearest centre
SAME = 1e-9  # distance at which two maps are one


def joint_clusters(versions: Sequence[Array]) -> tuple[list[Labels], NDArray[np.float64]]:
    """Clusters (N,) of the same images' shares (N,D) in every version, and the centres (C,D) of at most 16 clusters.

    A row of NaN belongs to none, -1. In the spirit of SpRAy (Lapuschkin et al., Nature Communications 2019), with
    Ward's linkage (1963) instead of spectral clustering, whose eigengap joined nearly everything on the maps it was
    tried on: no seed, no start. The maps of the same images, drawn by their number alone, are clustered for every
    version and put in an order of their values first, so that versions may change places: where the candidate is one
    more model of the floor, nothing here tells it from the others. At least two rows must be without NaN.
    """
    chosen = np.random.default_rng(0).permutation(len(versions[0]))[: max(2, LANDMARKS // len(versions))]
    centres = _centres(np.concatenate([each[chosen] for each in versions]).astype(np.float64))
    return [_nearest(each, centres) for each in versions], centres


def _centres(landmarks: NDArray[np.float64]) -> NDArray[np.float64]:
    known = landmarks[np.isfinite(landmarks).all(axis=1)]
    known = known[np.lexsort(known.T[::-1])]
    tree = linkage(known, "ward")
    heights = tree[:, 2]
    cut = max(heights[-MOST], SAME) if len(heights) >= MOST else SAME
    labels = fcluster(tree, cut, "distance")
    return np.stack([known[labels == label].mean(axis=0) for label in np.unique(labels)])


def _nearest(rows: Array, centres: NDArray[np.float64]) -> Labels:
    distances = (centres**2).sum(axis=1) - 2 * rows @ centres.T
    return np.where(np.isnan(distances).any(axis=1), -1, distances.argmin(axis=1)).astype(np.int64)
