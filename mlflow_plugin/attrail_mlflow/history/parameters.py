"""Run parameters of two trainings compared, but for those that are no part of a recipe, known by the words of a name.

``trainer.outputDir`` has the words trainer, output and dir. Passed over are

- seeds: a word is seed, seeds or rng, or the last two are random state; the values are whole numbers or none;
- dates: the last word is date, datetime or timestamp, or all are one of ``MOMENTS``; but not dates of data, unless a
  refresh was declared;
- names: the last two words, or the only one, are those of a run, an experiment, a job, or a machine (``NAMES``);
- outputs: a word of ``OUTPUT`` before one of ``PLACE`` at the end, written as one or two, or one of ``OUTPUTS``.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attrail_explainers.excerpt import excerpt

WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
DRAWN = re.compile(r"-?[0-9]+|None|null|")
SEEDS = {"seed", "seeds", "rng"}
DATES = {"date", "datetime", "timestamp"}
MOMENTS = {"time", "start time", "end time", "run time", "created at", "started at", "started", "finished"}
DATA = {"cutoff", "data", "dataset", "snapshot", "split", "window"}
NAMES = {
    *("run name", "run id", "experiment", "experiment name", "experiment id", "exp name", "job name", "job id"),
    *("host", "hostname", "user", "username"),
}
OUTPUT = {"artifact", "artifacts", "log", "logging", "logs", "out", "output", "result", "results", "save"}
OUTPUT |= {"temp", "tmp", "tracking", "work"}
PLACE = {"dir", "directory", "file", "folder", "location", "path", "root", "to", "uri"}
JOINED = {first + second for first in OUTPUT for second in PLACE}  # logdir, outfile
OUTPUTS = {"out", "output", "checkpoint dir", "ckpt dir", "default root dir"}  # a checkpoint's path may be an input
SHOWN = 80  # characters of a value


@dataclass(frozen=True)
class ComparedParameters:
    """In words: how parameters ``differ``, and which differ but were ``passed_over``; how many are the ``same``."""

    differ: tuple[str, ...]
    passed_over: tuple[str, ...]
    same: int


def compare_parameters(
    own: Mapping[str, str], other: Mapping[str, str], other_label: str, *, refreshed: bool = False
) -> ComparedParameters:
    """A version's parameters held against those of the version with the ``other_label``; see the module.

    ``refreshed``: other data are what was declared.
    """
    differ: list[str] = []
    passed_over: list[str] = []
    for name in sorted(own.keys() | other.keys()):
        mine, theirs = own.get(name), other.get(name)
        if _equal(mine, theirs):
            continue
        if is_no_recipe(name, (mine, theirs), refreshed=refreshed):
            passed_over.append(f"{name} ({_shown(mine)})")
        else:
            differ.append(f"{name} is {_shown(mine)}, {other_label} has {_shown(theirs)}")
    return ComparedParameters(
        tuple(differ), tuple(passed_over), len(own.keys() | other.keys()) - len(differ) - len(passed_over)
    )


def is_no_recipe(name: str, values: tuple[str | None, ...], *, refreshed: bool = False) -> bool:
    """Whether a parameter says nothing of a recipe: a seed, a date, a name or an output; see the module."""
    words = [each.lower() for each in WORD.findall(name)]
    return (
        _is_seed(words, values)
        or (_is_date(words) and (refreshed or not DATA & set(words)))
        or any(tail in NAMES for tail in _tails(words))
        or any(tail in OUTPUTS for tail in _tails(words))
        or "".join(words[-2:]) in JOINED
        or "".join(words[-1:]) in JOINED
    )


def _is_seed(words: list[str], values: tuple[str | None, ...]) -> bool:
    named = SEEDS & set(words) or words[-2:] == ["random", "state"]
    return bool(named) and all(DRAWN.fullmatch(each or "") for each in values)


def _is_date(words: list[str]) -> bool:
    return words[-1:] != [] and (words[-1] in DATES or " ".join(words) in MOMENTS)


def _tails(words: list[str]) -> Iterator[str]:
    """All of a name's words, and its last two: a dotted name has the group it belongs to in front."""
    yield " ".join(words)
    yield " ".join(words[-2:])


def _equal(one: str | None, other: str | None) -> bool:
    """0.001 and 1e-3 are one value; MLflow keeps what a program happened to print."""
    if one is None or other is None or one == other:
        return one == other
    try:
        numbers = float(one), float(other)
    except ValueError:
        return False
    return math.isfinite(numbers[0]) and numbers[0] == numbers[1]


def _shown(value: str | None) -> str:
    return "none" if value is None else excerpt(value, SHOWN) or "empty"
