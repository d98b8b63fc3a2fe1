"""A process of its own for what loads models, which is not told where the signing key is.

It is loky's, which joblib brings: multiprocessing's own would run the caller's script once more before it starts.
"""

import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from concurrent.futures.process import BrokenProcessPool
from typing import ParamSpec, TypeVar

from joblib.externals.loky import ProcessPoolExecutor  # type: ignore[import-untyped]

from attrail_explainers.errors import ExplanationError
from attrail_mlflow.signing.keys import key_hidden, signs

Arguments = ParamSpec("Arguments")
Answer = TypeVar("Answer")


def must_be_apart(*, allow_pickle: bool = False) -> bool:
    """Whether this process must load no model itself: when it signs, or when models may be pickled."""
    return signs() or allow_pickle


@contextlib.contextmanager
def another_process() -> Iterator[Executor]:
    """One fresh process for the time of a block; ExplanationError when it ends before it has answered."""
    try:
        with key_hidden(), ProcessPoolExecutor(max_workers=1) as process:
            yield process
    except BrokenProcessPool as error:
        raise ExplanationError(
            "the process that loads the models ended before it answered: see whether this machine has enough memory"
        ) from error


def call_apart(
    apart: bool, function: Callable[Arguments, Answer], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Answer:
    """What ``function`` returns, called in another process when ``apart`` says so, else here.

    Function, arguments and answer must be picklable. Raises what ``another_process`` raises.
    """
    if not apart:
        return function(*args, **kwargs)
    with another_process() as process:
        return process.submit(function, *args, **kwargs).result()
