"""Memory that is freed between batches stays with the process, instead of being asked for again page by page."""

import ctypes
import os
from functools import cache

# malloc.h's names and numbers; see mallopt(3).
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**30  # bytes: larger blocks still go back to the system at once
DASK = "65536"  # what Dask sets for every worker (distributed.nanny.pre-spawn-environ), whatever runs there


@cache
def keep_pages() -> None:
    """Set glibc's thresholds once per process; does nothing elsewhere, or where the user has set them.

    Activations are larger than glibc's limit of at most 32 MiB, so that the kernel maps, clears and unmaps every
    layer's output: with EfficientNet-lite0 in batches of 32 that is two thirds of the time, and of a small network in a
    Dask worker as well. A process keeps as much memory as it needed at its peak, and no more.
    """
    trimmed = os.environ.get("MALLOC_TRIM_THRESHOLD_", DASK)
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ and trimmed == DASK:
        set_thresholds(LARGEST, LARGEST)


def set_thresholds(mapped: int, trimmed: int) -> None:
    """Bytes of a block from which it is mapped, and of free memory from which it is given back; glibc only."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, mapped)
        mallopt(M_TRIM_THRESHOLD, trimmed)
