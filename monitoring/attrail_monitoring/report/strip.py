"""A strip: one finding drawn on a line, so that floor, limit and candidate are seen at once."""

import math
from dataclasses import dataclass

from attrail_monitoring.verdict import Finding

LEFT, RIGHT = 6.0, 334.0  # of a drawing 340 wide: a phone shows it without shrinking its letters
ROUND_ENDS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class Strip:
    """Places along a strip, in its own units: every one is a number between LEFT and RIGHT, or None.

    ``end`` is the distance at the right end, ``limit`` is None too when it lies beyond that end.
    """

    end: float
    dots: tuple[float, ...]
    limit: float | None
    value: float | None
    lower: float | None
    upper: float | None
    left: float = LEFT
    right: float = RIGHT


def strip_of(finding: Finding) -> Strip:
    """The strip of a finding; it never reaches further than the statistic can."""
    measured = finding.measurement
    shown = (*measured.floor.distances, measured.value, measured.upper, finding.limit)
    furthest = max((each for each in shown if each is not None and math.isfinite(each)), default=0.0)
    end = min(_round_end(1.05 * furthest), measured.ceiling)

    def place(distance: float | None) -> float | None:
        if distance is None or not distance <= end:
            return None
        return round(LEFT + (RIGHT - LEFT) * distance / end, 1)

    dots = tuple(x for x in map(place, measured.floor.distances) if x is not None)
    return Strip(end, dots, place(finding.limit), place(measured.value), place(measured.lower), place(measured.upper))


def _round_end(distance: float) -> float:
    """The next round number at or above a distance; 1 for none."""
    if distance <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(distance))
    return round(power * next(each for each in ROUND_ENDS if each >= distance / power * (1 - 1e-12)), 12)
