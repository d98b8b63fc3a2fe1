"""Work shared out among processes of one thread each: the same bytes on any number of cores."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

import torch
from threadpoolctl import threadpool_limits

Task = TypeVar("Task")
Result = TypeVar("Result")


def one_thread() -> None:
    """Let torch and the linear algebra behind NumPy use one thread in this process."""
    torch.set_num_threads(1)
    threadpool_limits(1)


def shared_out(work: Callable[[Task], Result], tasks: Sequence[Task], workers: int) -> Iterator[Result]:
    """The result of each task in the tasks' order; ``work`` must be importable."""
    if workers == 1:
        one_thread()
        yield from map(work, tasks)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=one_thread) as pool:
        yield from pool.map(work, tasks)
