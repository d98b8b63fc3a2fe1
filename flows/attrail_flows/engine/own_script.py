"""Processes that start do not run this one's script once more, as those of multiprocessing do first.

A script that calls a flow without ``if __name__ == "__main__"`` would train its models again in every worker, and audit
them again: by itself, without the key. Workers need nothing of it: what they get is pickled by value (cloudpickle).
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

# multiprocessing.spawn passes over a main module of this name, as over that of a package.
PASSED_OVER = ModuleSpec("__main__", None)

_lock = threading.Lock()
_kept: list[ModuleSpec | None] = []  # the script's own, once for each block: several flows may run in one process


@contextlib.contextmanager
def script_not_run_again() -> Iterator[None]:
    """For the time of a block, no process that multiprocessing or Dask starts here runs the script of this one."""
    main = sys.modules["__main__"]
    with _lock:
        _kept.append(_kept[0] if _kept else main.__spec__)
        main.__spec__ = PASSED_OVER
    try:
        yield
    finally:
        with _lock:
            spec = _kept.pop()
            if not _kept:
                main.__spec__ = spec
