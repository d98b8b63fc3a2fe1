"""Torch in one thread: the number of threads decides the order of summation, and so the last bits of every map."""

import contextlib
import threading
from collections.abc import Iterator

import torch

_LOCK = threading.Lock()
_inside: list[int] = []  # for every block that is being run, how many threads there were before the first


@contextlib.contextmanager
def one_torch_thread() -> Iterator[None]:
    """A block in which torch computes in the calling thread alone, as on a machine with one core.

    Blocks may run in several threads at once: what was set before the first comes back after the last. Half of torch's
    setting is the process's (MKL's) and half the thread's (OpenMP's), so no block may undo it under another.
    """
    with _LOCK:
        _inside.append(_inside[0] if _inside else torch.get_num_threads())
        torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            before = _inside.pop()
            if not _inside:
                torch.set_num_threads(before)
