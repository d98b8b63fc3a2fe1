"""What a parameter may be: the one check of numbers and names that callers give, whichever door they come through.

A bool is no number, though Python's ``True`` is an ``int``: ``samples=True`` is a slip, not one sample.
"""

import math
from collections.abc import Callable, Sequence
from typing import TypeGuard

from attrail_explainers.errors import ConfigError


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def require_whole(name: str, value: object, least: int) -> None:
    """ConfigError unless a parameter is a whole number of at least ``least``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number of at least {least}, not {value!r}")


def require_number(name: str, value: object, wanted: str, fits: Callable[[float], bool]) -> None:
    """ConfigError, which says what is ``wanted``, unless a parameter is a finite number that ``fits``."""
    if not is_number(value) or not fits(value):
        raise ConfigError(f"{name} must {wanted}, not {value!r}")


def require_positive(name: str, value: object) -> None:
    """ConfigError unless a parameter is a finite number above 0."""
    require_number(name, value, "be a number above 0", lambda number: number > 0)


def require_share(name: str, value: object) -> None:
    """ConfigError unless a parameter is a number between 0 and 1, which are excluded."""
    require_number(name, value, "lie between 0 and 1", lambda share: 0 < share < 1)


def require_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """ConfigError unless a parameter is one of ``choices``."""
    if value not in choices:
        raise ConfigError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, not {value!r}")


def require_layer(value: object) -> None:
    """ConfigError unless a parameter is the name of a submodule, or None for the layer that is found by itself."""
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"layer must be the name of a submodule, not {value!r}")
