"""Linear algebra in one thread, where matrices are small and bytes must not depend on the number of cores."""

import contextlib
import threading
from collections.abc import Iterator
from functools import cache

from threadpoolctl import ThreadpoolController

_LOCK = threading.RLock()


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """A block, or as a decorator a function, that runs alone and with one BLAS thread.

    The number of threads decides the order of summation; and for matrices of a few hundred rows more threads only wait
    for each other. The setting is the process's, hence the lock.
    """
    with _LOCK, _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
