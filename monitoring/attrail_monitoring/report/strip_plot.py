"""A strip: one finding drawn on a line, so that floor, limit and candidate are seen at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from attrail_monitoring.verdict.findings import Finding

LEFT, RIGHT = 6.0, 334.0  # of a drawing 340 wide: a phone shows it without shrinking its letters
ROUND_ENDS = (1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


@dataclass(frozen=True)
class Axis:
    """Distances from 0 to ``end`` between two places of a drawing."""

    end: float
    left: float = LEFT
    right: float = RIGHT

    def place(self, distance: float | None) -> float | None:
        """Where a distance is drawn; None for none, and for one beyond the end."""
        if distance is None or not distance <= self.end:
            return None
        return round(self.left + (self.right - self.left) * distance / self.end, 1)


@dataclass(frozen=True)
class Strip:
    """Places along a strip, in its own units: every one is a number between the ends of the axis, or None.

    ``limit`` is None too when it lies beyond the end.
    """

    axis: Axis
    dots: tuple[float, ...]
    limit: float | None
    value: float | None
    lower: float | None
    upper: float | None


def axis_of(findings: Sequence[Finding], left: float = LEFT, right: float = RIGHT, *, limits: bool = True) -> Axis:
    """An axis for all these findings of one statistic; it never reaches further than the statistic can.

    Without ``limits`` it need not reach them.
    """
    shown = [each for finding in findings for each in _distances(finding, limits) if math.isfinite(each)]
    return axis_to(max(shown, default=0.0), max(finding.measurement.ceiling for finding in findings), left, right)


def axis_to(largest: float, ceiling: float, left: float = LEFT, right: float = RIGHT) -> Axis:
    """An axis with a round end a little beyond the largest distance, at most at the ceiling."""
    return Axis(min(_round_end(1.05 * largest), ceiling), left, right)


def strip_of(finding: Finding, axis: Axis | None = None) -> Strip:
    """The strip of a finding, on an axis of its own when none is given."""
    axis = axis or axis_of([finding])
    measured = finding.measurement
    dots = tuple(x for x in map(axis.place, measured.floor.distances) if x is not None)
    places = (axis.place(each) for each in (finding.limit, measured.value, measured.lower, measured.upper))
    return Strip(axis, dots, *places)


def _distances(finding: Finding, limits: bool) -> tuple[float, ...]:
    measured = finding.measurement
    limit = (finding.limit,) if limits and finding.limit is not None else ()
    return (*measured.floor.distances, measured.value, measured.upper, *limit)


def _round_end(distance: float) -> float:
    """The next round number at or above a distance; 1 for none."""
    if distance <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(distance))
    return round(power * next(each for each in ROUND_ENDS if each >= distance / power * (1 - 1e-12)), 12)
