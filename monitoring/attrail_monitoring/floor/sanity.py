"""The instrument: whether an explainer can measure anything on a slice."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from attrail_monitoring.maps.pair import Pair, Side
from attrail_monitoring.maps.statistic import make_statistic, statistic_names

REPORTED = ("surrogate_r2", "completeness_residual", "emulator_r2", "noise")


@dataclass(frozen=True)
class ExplainerSanity:
    """What one explainer's own behaviour says of its measurements on one slice, per statistic.

    ``repeat``: by how much the distance of one reference retrain changes when all draws are made anew; 0 for explainers
    that draw nothing. ``random_head``: distance of the reference with a random classification layer, which an
    explainer that looks at the class must notice (Adebayo et al., NeurIPS 2018). ``unrelated``: distance between the
    reference's maps of an image and of the next one, the ceiling for maps that have nothing to do with each other.
    ``diagnostics``: medians over images of what the explainer reports of itself, such as LIME's R2.
    """

    repeat: Mapping[str, float] = field(default_factory=dict)
    random_head: Mapping[str, float] = field(default_factory=dict)
    unrelated: Mapping[str, float] = field(default_factory=dict)
    diagnostics: Mapping[str, float] = field(default_factory=dict)

    def ceiling(self, statistic: str) -> float | None:
        """The distance that maps without relation reach, None when it was not measured."""
        found = [each[statistic] for each in (self.random_head, self.unrelated) if statistic in each]
        return max(found, default=None)


def sanity_of(
    reference: Side, random_head: Side | None, retrain: Side | None = None, again: tuple[Side, Side] | None = None
) -> ExplainerSanity:
    """The instrument of one explainer on one slice.

    ``random_head`` holds the maps of the reference with a random head, None where the explainer does not look at
    classes; ``retrain`` those of one reference retrain and ``again`` those of reference and retrain with other draws.
    """
    return ExplainerSanity(
        repeat=_repeat(reference, retrain, again),
        random_head={} if random_head is None else _distances(Pair(reference, random_head)),
        unrelated=_distances(Pair(reference, _shifted(reference))),
        diagnostics=_medians(reference),
    )


def _repeat(reference: Side, retrain: Side | None, again: tuple[Side, Side] | None) -> dict[str, float]:
    if retrain is None:
        return {}
    first = _distances(Pair(reference, retrain))
    second = first if again is None else _distances(Pair(*again))
    return {name: abs(value - second[name]) for name, value in first.items() if name in second}


def _distances(pair: Pair) -> dict[str, float]:
    """The distance of a pair by every statistic that can measure it."""
    if not pair.defined.any():
        return {}
    statistics = {name: make_statistic(name) for name in statistic_names()}
    return {
        name: float(statistic.value(pair.terms(statistic)[pair.defined].mean(axis=0)))
        for name, statistic in statistics.items()
        if pair.reference.seen_by(statistic) is not None
    }


def _shifted(side: Side) -> Side:
    """A side's maps, each said to be of the next image; those of the source are copied only where one is missing."""
    source, maps = side.source, np.roll(side.maps, 1, axis=0)
    if not source.undefined:
        return Side(source, maps, side.right, side.regions)
    ids = source.sample_ids
    undefined = {
        ids[(row + 1) % len(ids)]: source.undefined[name] for row, name in enumerate(ids) if name in source.undefined
    }
    moved = replace(source, values=np.roll(source.values, 1, axis=0), undefined=undefined)
    return Side(moved, maps, side.right, side.regions)


def _medians(side: Side) -> dict[str, float]:
    found = side.source.diagnostics
    return {
        name: float(np.nanmedian(found[name])) for name in REPORTED if name in found and np.isfinite(found[name]).any()
    }
