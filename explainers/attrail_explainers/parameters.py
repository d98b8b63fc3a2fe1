"""What a parameter may be: the one check of numbers and names that callers give, whichever door they come through.

A bool is no number, though Python's ``True`` is an ``int``: ``samples=True`` is a slip, not one sample. NumPy's numbers
are numbers; ``plain`` makes Python's of them, so that digests and records do not tell who counted.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import fields
from numbers import Integral
from typing import Any, TypeGuard, cast

import numpy as np

from attrail_explainers.errors import ConfigError


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number, Python's or NumPy's, and no bool."""
    return (
        isinstance(value, int | float | np.integer | np.floating)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def is_whole(value: object) -> TypeGuard[int]:
    """Whether a value is a whole number, Python's or NumPy's, and no bool; 1.0 is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def plain(value: Any) -> Any:
    """Return a parameter as Python has it: a number of NumPy's as an int, a float or a bool, all else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def settle(parameters: object) -> None:
    """Make Python's numbers of NumPy's in the fields of a dataclass, also of a frozen one that is being made."""
    for each in fields(cast(Any, parameters)):
        object.__setattr__(parameters, each.name, plain(getattr(parameters, each.name)))


def require_whole(name: str, value: object, least: int) -> int:
    """Return a parameter as an int; raise ConfigError unless it is a whole number of at least ``least``."""
    if not is_whole(value) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {plain(value)!r}")
    return int(value)


def require_number(name: str, value: object, wanted: str, fits: Callable[[float], bool]) -> None:
    """Raise ConfigError, which says what is ``wanted``, unless a parameter is a finite number that ``fits``."""
    if not is_number(value) or not fits(value):
        raise ConfigError(f"{name} must {wanted}, not {plain(value)!r}")


def require_positive(name: str, value: object) -> None:
    """Raise ConfigError unless a parameter is a finite number above 0."""
    require_number(name, value, "be a number above 0", lambda number: number > 0)


def require_share(name: str, value: object) -> None:
    """Raise ConfigError unless a parameter is a number between 0 and 1, which are excluded."""
    require_number(name, value, "lie between 0 and 1", lambda share: 0 < share < 1)


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ConfigError unless a parameter is one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {plain(value)!r}")


def require_names(name: str, value: object) -> tuple[str, ...]:
    """Return a parameter as a tuple of names; raise ConfigError unless it is a list of different texts."""
    names = tuple(value) if isinstance(value, list | tuple) else (None,)
    if not all(isinstance(each, str) and each for each in names) or len(set(names)) < len(names):
        raise ConfigError(f"{name} must be a list of different names, not {value!r}")
    return cast(tuple[str, ...], names)


def require_layer(value: object) -> None:
    """Raise ConfigError unless a parameter is the name of a submodule, or None for the layer that is found."""
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"layer must be the name of a submodule, not {value!r}")
