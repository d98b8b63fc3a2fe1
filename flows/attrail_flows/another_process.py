"""A process of its own for what loads models, which is not told where the signing key is."""

import contextlib
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import ParamSpec, TypeVar

from attrail_flows.configuration import AuditConfig
from attrail_mlflow.keys import key_hidden, signs

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


@contextlib.contextmanager
def another_process() -> Iterator[ProcessPoolExecutor]:
    """One fresh process for the time of a block."""
    spawn = multiprocessing.get_context("spawn")
    with key_hidden(), ProcessPoolExecutor(max_workers=1, mp_context=spawn) as process:
        yield process


def call_apart(
    config: AuditConfig, function: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Answer:
    """What ``function`` returns, called in another process when this one signs or the policy lets models be pickled.

    Else here. Function, arguments and answer must be picklable.
    """
    if not (signs() or config.policy.allow_pickle):
        return function(*args, **kwargs)
    with another_process() as process:
        return process.submit(function, *args, **kwargs).result()
