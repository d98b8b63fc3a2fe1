"""How the report writes numbers and names."""

import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

NOTHING = "\N{EN DASH}"
LANE = 10  # letters beside a lane


def number(value: float | None) -> str:
    """A distance to three decimals, two significant digits below 0.001; a dash where there is none."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def percent(value: float | None) -> str:
    """A share as a percentage to one decimal."""
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.1f} %"


def times(value: float | None) -> str:
    """A multiple of the floor: to one decimal, whole from 10."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{value:.1f} \N{MULTIPLICATION SIGN}" if value < 9.95 else f"{value:.0f} \N{MULTIPLICATION SIGN}"


def share(value: float | None) -> str:
    """A place between two distances as a whole percentage, which may lie before the first or beyond the second."""
    if value is None or math.isnan(value):
        return NOTHING
    return f"{round(100 * value)} %".replace("-", "\N{MINUS SIGN}")


def chance(value: float | None) -> str:
    """A p-value: never a bare zero, and an adjusted one at most 1."""
    if value is None or math.isnan(value):
        return NOTHING
    return "< 0.0001" if value < 0.0001 else f"{min(value, 1.0):.4f}"


def spoken(name: str) -> str:
    """A file's name as words: ``coherent_shift`` is a coherent shift."""
    return name.replace("_", " ")


def lane_name(stratum: str) -> str:
    """A class where there is room for ten letters: its name if it has one, else its number."""
    text = stratum.partition(" (")[2].removesuffix(")") or stratum
    return text if len(text) <= LANE else f"{text[: LANE - 1]}\N{HORIZONTAL ELLIPSIS}"


def sentence(text: str) -> str:
    """Text that starts with a capital letter; ``str.capitalize`` would take the others away."""
    return text[:1].upper() + text[1:]


def moment(time: str | int) -> str:
    """A time in ISO 8601 or in milliseconds since 1970, to the second as people write it; other text stays."""
    if isinstance(time, int):
        return moment(datetime.fromtimestamp(time / 1000, UTC).isoformat())
    try:
        return datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M:%S %Z").strip()
    except ValueError:
        return time


def flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Name and text of every value inside nested mappings and sequences: names joined by dots, plain ones by commas."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(each, Mapping | list | tuple) for each in value):
        yield from flat(dict(enumerate(value)), name)
    elif isinstance(value, list | tuple):
        yield name, ", ".join(str(each) for each in value) or NOTHING
    else:
        yield name, NOTHING if value is None else str(value)


def looked_up(names: Iterable[str], known: Mapping[str, float]) -> list[float]:
    """The values of those names that are known."""
    return [known[name] for name in names if name in known]
