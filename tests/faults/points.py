"""What the worker's processes wrote down: the points that audits reached, in their order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Point:
    """A point, the process that reached it, when (seconds since the epoch), and what it was about."""

    point: str
    pid: int
    time: float
    about: tuple[str, ...]


def points(folder: Path, after: int = 0) -> list[Point]:
    """Every point but the first ``after``; a line that is not whole yet is not there yet."""
    text = (folder / "trace.jsonl").read_text()
    lines = text[: text.rfind("\n") + 1].splitlines()[after:]
    found = [json.loads(line) for line in lines]
    return [Point(each["point"], each["pid"], each["time"], tuple(each["about"])) for each in found]


def begun_again(trace: Sequence[Point], since: float) -> int:
    """Shards that were begun at or after a moment and had been begun before it."""
    begun = [each for each in trace if each.point == "shard begun"]
    before = {each.about[0] for each in begun if each.time < since}
    return sum(each.about[0] in before for each in begun if each.time >= since)


def finished_again(trace: Sequence[Point]) -> list[str]:
    """Shards that were begun although they had been kept before."""
    kept, found = set(), []
    for each in trace:
        if each.point == "shard kept":
            kept.add(each.about[0])
        elif each.point == "shard begun" and each.about[0] in kept:
            found.append(each.about[0])
    return found
