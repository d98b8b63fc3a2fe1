"""Floors of decisions: how far the decisions of honest models are from the reference's, by every statistic."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from attrail_explainers.errors import IncomparableError
from attrail_monitoring.decisions.decision_statistic import (
    DecisionStatistic,
    decision_statistic_names,
    make_decision_statistic,
)
from attrail_monitoring.decisions.decisions import Decisions, require_same_images
from attrail_monitoring.floor.noise_floor import NoiseFloor, Source
from attrail_monitoring.inference.prediction_bound import FEWEST, prediction_bound
from attrail_monitoring.inference.scale import Scale
from attrail_monitoring.inference.shared_spread import SharedSpread, shared_spread
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.strata import ALL, classes, is_class
from attrail_monitoring.maps.version_maps import VersionMaps

TOLD: tuple[Source, ...] = ("retrains", "history", "repeats")  # stand-ins say nothing of how honest models decide


class DecidedAt(NamedTuple):
    """Where a statistic of decisions was measured."""

    slice: str
    statistic: str
    stratum: str


class Compared(NamedTuple):
    """Decisions of two versions about the same images, and the statistic that compares them."""

    place: DecidedAt
    statistic: DecisionStatistic
    reference: Decisions
    other: Decisions


@dataclass(frozen=True)
class DecisionFloor:
    """Values of one statistic for K models against the reference, on the same ``images``, one per model.

    As ``NoiseFloor`` is for maps, but on the statistic's own ``scale``, and with a spread of at least what so many
    images can tell (``Scale.least_spread``): models that agree to the image do not say that the next one must.
    """

    values: tuple[float, ...] = ()
    models: tuple[str, ...] = ()
    source: Source = "retrains"
    scale: Scale = Scale.PLAIN
    images: int = 1
    shared: SharedSpread | None = None

    @property
    def tier(self) -> str:
        """One of ``noise_floor.TIERS``, "0" where the models are stand-ins."""
        return self._counted.tier

    @property
    def lacking(self) -> str:
        """What is not known where there is no floor."""
        if self.source in TOLD:
            return self._counted.lacking
        return "the floor's models are stand-ins, so nothing says how many decisions an honest change turns"

    def bound(self, alpha: float) -> float | None:
        """What one more model exceeds with probability at most alpha, None with fewer than four models.

        t-prediction bound on the scale (Hahn & Meeker 1991, ch. 4), never below a value that a model reached.
        """
        if self.tier == "0":
            return None
        return max(self.scale.back(prediction_bound(*self._moments(), alpha)), *self.values)

    def p_value(self, value: float) -> float | None:
        """Probability that one more model lands at ``value`` or beyond, None with fewer than four models.

        Within the values seen it is at least the exact rank probability, as ``NoiseFloor.p_value`` is.
        """
        if self.tier == "0":
            return None
        mean, spread, freedom = self._moments()
        tail = float(stats.t.sf((float(self.scale.of(value)) - mean) / spread, freedom))
        reached = sum(each >= value for each in self.values)
        return max(tail, (1 + reached) / (1 + len(self.values))) if reached else tail

    def row(self) -> dict[str, Any]:
        """Plain values, of which ``read`` makes the floor again."""
        shared = None if self.shared is None else {"variance": self.shared.variance, "freedom": self.shared.freedom}
        facts = {"values": list(self.values), "models": list(self.models), "images": self.images}
        return {**facts, "scale": self.scale.value, "shared": shared}

    @classmethod
    def read(cls, row: Mapping[str, Any], source: Source) -> "DecisionFloor":
        """The floor in a row; KeyError, TypeError or ValueError when it is none."""
        shared = None if row["shared"] is None else SharedSpread(**row["shared"])
        return cls(tuple(row["values"]), tuple(row["models"]), source, Scale(row["scale"]), row["images"], shared)

    @property
    def _counted(self) -> NoiseFloor:
        known = self.source in TOLD
        return NoiseFloor(self.values if known else (), self.models if known else (), self.source)

    def _moments(self) -> tuple[float, float, float]:
        """Mean on the scale, prediction spread s sqrt(1 + 1/K), degrees of freedom."""
        found, count = self.scale.of(self.values), len(self.values)
        variance, freedom = float(found.var(ddof=1)), float(count - 1)
        if self.shared is not None:
            variance, freedom = self.shared.with_own(variance, count - 1)
        spread = max(variance, self.scale.least_spread(self.images) ** 2) * (1 + 1 / count)
        return float(found.mean()), float(np.sqrt(spread)), freedom


def compared(reference: VersionMaps, other: VersionMaps, class_images: int) -> Iterator[Compared]:
    """Both versions' decisions by every statistic that can be told, slice by slice: all images, then single classes.

    A class is one of labels, or where these are not known of the reference's predictions, with ``class_images`` or
    more. Raises IncomparableError when decisions are known of one version alone, or are not about the same images.
    """
    _require_both(reference, other)
    for name, first in reference.decisions.items():
        second = other.decisions[name]
        require_same_images(name, first, second)
        kinds = first.predictions if first.labels is None else first.labels
        single = [] if first.tolerance is not None else classes(kinds, class_images)
        strata = [(ALL, np.ones(len(first), dtype=np.bool_)), *single]
        for statistic_name in decision_statistic_names():
            statistic = make_decision_statistic(statistic_name)
            if any(getattr(first, need) is None for need in statistic.needs):
                continue
            for stratum, rows in strata:
                if stratum == ALL or statistic.of_classes:
                    yield Compared(DecidedAt(name, statistic_name, stratum), statistic, first.at(rows), second.at(rows))


def decision_floors(
    reference: VersionMaps, others: Sequence[VersionMaps], settings: Settings, source: Source
) -> dict[DecidedAt, DecisionFloor]:
    """The floor of every statistic of decisions at every place; none where they are not known, or of stand-ins.

    Raises IncomparableError as ``compared`` does.
    """
    if source not in TOLD:
        return {}
    found: dict[DecidedAt, list[float]] = {}
    kinds: dict[DecidedAt, tuple[Scale, int]] = {}
    for other in others:
        for place, statistic, first, second in compared(reference, other, settings.class_images):
            found.setdefault(place, []).append(float(statistic.value(statistic.terms(first, second).mean(axis=0))))
            kinds[place] = (statistic.scale, len(first))
    shared, models = _shared(found, kinds), tuple(each.maps[0].model for each in others)
    return {
        place: DecisionFloor(tuple(values), models, source, *kinds[place], shared.get(place))
        for place, values in found.items()
    }


def _shared(
    found: Mapping[DecidedAt, Sequence[float]], kinds: Mapping[DecidedAt, tuple[Scale, int]]
) -> dict[DecidedAt, SharedSpread]:
    """The spread that a statistic shares over the classes of a slice, which have few images each."""
    spreads: dict[DecidedAt, SharedSpread] = {}
    of_classes = [place for place, values in found.items() if is_class(place.stratum) and len(values) >= FEWEST]
    for name, statistic in dict.fromkeys((place.slice, place.statistic) for place in of_classes):
        places = [place for place in of_classes if (place.slice, place.statistic) == (name, statistic)]
        spread = shared_spread([found[place] for place in places], kinds[places[0]][0])
        if spread is not None:
            spreads |= dict.fromkeys(places, spread)
    return spreads


def _require_both(reference: VersionMaps, other: VersionMaps) -> None:
    for name in reference.decisions.keys() ^ other.decisions.keys():
        known, unknown = (reference, other) if name in reference.decisions else (other, reference)
        raise IncomparableError(
            f"it is known what {known.maps[0].model} decides on slice {name!r}, but not what "
            f"{unknown.maps[0].model} does: give VersionMaps.decisions for every version or for none"
        )
