"""Strata: images grouped by how both versions decided, and by class."""

from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.bool_]
Stratum = str
Outcome = Literal["both right", "flipped", "both wrong"]
ALL = "all"
BOTH_RIGHT: Outcome = "both right"
OUTCOMES: tuple[Outcome, ...] = (BOTH_RIGHT, "flipped", "both wrong")
HEADLINES = (ALL, BOTH_RIGHT)  # the strata that a verdict can rest on


def outcome(first: Rows, second: Rows, kind: Outcome) -> Rows:
    """(N,) where two versions, each (N,) right or wrong about its images, agree or differ as ``kind`` says."""
    if kind == "flipped":
        return np.asarray(first != second)
    return np.asarray(first & second) if kind == BOTH_RIGHT else np.asarray(~(first | second))


def outcomes(first: Rows, second: Rows) -> list[Outcome]:
    """The outcome of each image, N of them."""
    return [
        BOTH_RIGHT if a and b else "flipped" if a or b else "both wrong" for a, b in zip(first, second, strict=True)
    ]


def classes(targets: NDArray[np.int64], fewest: int) -> Iterator[tuple[Stratum, Rows]]:
    """The images (N,) of each explained class that has at least ``fewest`` of them, when there are two classes.

    ``targets`` (N,) is negative for images that belong to none.
    """
    found = np.unique(targets[targets >= 0])
    if len(found) > 1:
        for each in found:
            rows = np.asarray(targets == each)
            if rows.sum() >= fewest:
                yield class_name(int(each)), rows


def class_name(index: int) -> Stratum:
    """The stratum of one explained class."""
    return f"class {index}"


def is_class(stratum: Stratum) -> bool:
    """Whether a stratum is one class's."""
    return stratum.startswith(class_name(0)[:-1])


def named(stratum: Stratum, names: Sequence[str]) -> str:
    """A stratum for people: ``class 3 (cat)`` where the model's class ``names`` are known."""
    if not is_class(stratum):
        return stratum
    start = class_name(0)[:-1]
    return f"{start}{with_name(int(stratum.removeprefix(start)), names)}"


def with_name(index: int, names: Sequence[str]) -> str:
    """A class for people: ``3 (cat)``, the number alone where there is no name or the name is that number.

    Below 0 it is no class: ``none``.
    """
    if index < 0:
        return "none"
    known = index < len(names) and names[index] != str(index)
    return f"{index} ({names[index]})" if known else str(index)
