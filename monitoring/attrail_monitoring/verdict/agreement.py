"""Agreement: how far the evidence moved by all explainers together, one hypothesis for each statistic of a slice."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from attrail_monitoring.floor.noise_floor import SMALLEST, NoiseFloor
from attrail_monitoring.inference.multiplicity import holm
from attrail_monitoring.inference.shared_spread import PooledSpread
from attrail_monitoring.verdict.measurement import Measurement


@dataclass(frozen=True)
class Agreement:
    """One statistic on one slice by all ``explainers`` together.

    ``value``, ``lower`` and the ``floor``'s distances are means over explainers, each in units of its own floor: what
    all of them see adds up, what one sees by chance does not, and what one sees far beyond its floor is not lost for
    the others that see nothing. ``p_value`` is the chance that one more model of the floor moves as far on these
    images, ``adjusted`` the same for all agreements of the audit (Holm), to be compared with ``level``, their share of
    alpha. ``hides`` says that it would be flagged if the maps that the candidate lost had moved.
    """

    slice: str
    statistic: str
    explainers: tuple[str, ...]
    value: float
    lower: float
    floor: NoiseFloor
    p_value: float
    adjusted: float
    margin: float
    flagged: bool
    hides: bool = False
    level: float | None = None

    def row(self) -> dict[str, Any]:
        """Plain values for the record."""
        facts = asdict(self) | {"explainers": list(self.explainers), "floor_distances": list(self.floor.distances)}
        del facts["floor"]
        return facts


Group = tuple[Measurement, ...]


def groups_of(measurements: Sequence[Measurement]) -> list[Group]:
    """Measurements of one statistic on one slice by two explainers or more, with floors of the same models."""
    found: dict[tuple[str, str], list[Measurement]] = {}
    for each in measurements:
        found.setdefault((each.slice, each.statistic), []).append(each)
    return [tuple(group) for group in found.values() if len(group) > 1 and _one_floor(group)]


def mean_in_units(distances: Sequence[float], floors: Sequence[Sequence[float]], margin: float = 0.0) -> float:
    """The mean of E explainers' distances, each in units of its own floor's, times the mean of those units.

    Means of the floors' distances, and of the units, are geometric. A floor of no distance at all, as of an explainer
    that draws nothing and is only repeated, is no unit: the ``margin`` of the statistic stands in, or rounding counts.
    """
    units = np.exp([np.log(np.maximum(each, SMALLEST)).mean() for each in floors])
    units = np.where([max(each) > SMALLEST for each in floors], units, np.maximum(units, margin))
    return float(np.mean(distances / units) * np.exp(np.log(units).mean()))


def agreements_of(groups: Sequence[Group], alpha: float, margins: Sequence[float]) -> tuple[Agreement, ...]:
    """The agreement of each group, flagged beyond margin and floor at the level ``alpha`` of all of them."""
    known = list(zip(groups, margins, strict=True))
    floors = _pooled([_floor(group, margin) for group, margin in known])
    values = [_mean(group, [each.value for each in group], margin) for group, margin in known]
    chances = [floor.p_value(value) or 0.0 for floor, value in zip(floors, values, strict=True)]
    found = []
    for place, adjusted in enumerate(holm(chances) if chances else []):
        group = groups[place]
        lower = _mean(group, [each.lower for each in group], margins[place])
        found.append(
            Agreement(
                slice=group[0].slice,
                statistic=group[0].statistic,
                explainers=tuple(each.explainer for each in group),
                value=values[place],
                lower=lower,
                floor=floors[place],
                p_value=chances[place],
                adjusted=float(adjusted),
                margin=margins[place],
                flagged=bool(adjusted <= alpha and lower > margins[place]),
                level=alpha,
            )
        )
    return tuple(found)


def _one_floor(group: Sequence[Measurement]) -> bool:
    first = group[0].floor
    named = bool(first.models) and all(each.floor.models == first.models for each in group)
    unmeasured = first.tier == "D" and not first.measured  # it decides nothing, and is told what it would
    return named and (replace(first, factor=first.joint).may_flag or unmeasured)


def _floor(group: Group, margin: float) -> NoiseFloor:
    first = group[0].floor
    columns = zip(*(each.floor.distances for each in group), strict=True)
    distances = tuple(_mean(group, each, margin) for each in columns)
    return NoiseFloor(distances, first.models, first.source, factor=first.joint)


def _pooled(floors: Sequence[NoiseFloor]) -> list[NoiseFloor]:
    """Floors of the same models share the variance of their log distances: five models alone tell little of it."""
    spreads = [float(np.log(np.maximum(each.distances, SMALLEST)).var(ddof=1)) for each in floors]
    found = []
    for place, floor in enumerate(floors):
        others = (number for number, each in enumerate(floors) if number != place and each.models == floor.models)
        shared = PooledSpread(tuple(spreads[number] for number in others))
        found.append(replace(floor, shared=shared))
    return found


def _mean(group: Group, distances: Sequence[float], margin: float) -> float:
    return mean_in_units(distances, [each.floor.distances for each in group], margin)
