"""Measure: what the maps say, before any threshold is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import IncomparableError
from attrail_monitoring.bootstrap import bootstrap_interval
from attrail_monitoring.floor import NoiseFloor
from attrail_monitoring.grid import to_grid
from attrail_monitoring.statistic import Statistic, make_statistic, statistic_names

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Settings:
    """How to measure: ``grid`` cells a side at most, ``resamples`` of images, ``confidence`` of intervals."""

    grid: int = 14
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0


@dataclass(frozen=True)
class Measurement:
    """One statistic of one explainer on one slice, candidate against reference.

    ``value`` with ``lower`` and ``upper`` ends of its interval over images (NaN where no image is defined in both),
    ``ceiling`` the statistic's largest possible value, ``n`` images used, ``undefined`` images without a map in either
    version, ``floor`` the same distance for each reference retrain.
    """

    slice: str
    explainer: str
    statistic: str
    value: float
    lower: float
    upper: float
    ceiling: float
    n: int
    undefined: int
    primary: bool
    floor: NoiseFloor = field(default_factory=NoiseFloor)


def measure(
    reference: Attributions,
    candidate: Attributions,
    floor: Sequence[Attributions] = (),
    settings: Settings | None = None,
) -> list[Measurement]:
    """Every statistic of one explainer on one slice. IncomparableError when the maps are not like with like."""
    settings = settings or Settings()
    for other in (candidate, *floor):
        require_comparable(reference, other)
    first = _Gridded(reference, to_grid(reference.values, settings.grid))
    second, *retrains = (_Gridded(each, to_grid(each.values, settings.grid)) for each in (candidate, *floor))
    return [_measure(name, first, second, retrains, settings) for name in statistic_names()]


def require_comparable(reference: Attributions, other: Attributions) -> None:
    """IncomparableError unless explainer, parameters, seed, slice, samples, targets and grid are all the same."""
    if reference.comparability == other.comparability:
        return
    aspects = ("explainer", "slice_digest", "sample_ids")
    differing = [name for name in aspects if getattr(reference, name) != getattr(other, name)]
    for name in sorted(reference.parameters.keys() | other.parameters.keys()):
        first, second = reference.parameters.get(name), other.parameters.get(name)
        if first != second:
            differing.append(f"parameter {name} ({first!r} and {second!r})")
    if not np.array_equal(reference.targets, other.targets):
        differing.append("targets")
    if reference.values.shape != other.values.shape:
        differing.append(f"grid {reference.values.shape[1:]} and {other.values.shape[1:]}")
    raise IncomparableError(
        f"maps of {reference.model} and {other.model} may not be compared, they differ in: "
        f"{', '.join(differing)}; explain both on the same slice with the same settings"
    )


def image_distances(reference: Attributions, candidate: Attributions, settings: Settings) -> Array:
    """Rank distance (N,) of each image's two maps, NaN where either is undefined: which images moved most."""
    distances = np.full(len(reference.sample_ids), np.nan)
    both = reference.defined & candidate.defined
    if both.any():
        first, second = (to_grid(each.values[both], settings.grid) for each in (reference, candidate))
        distances[both] = make_statistic("rank_distance").terms(first, second)[:, 0]
    return distances


class _Gridded(NamedTuple):
    """Attributions with their maps on the grid of comparison."""

    source: Attributions
    maps: Array


def _measure(
    name: str, reference: _Gridded, candidate: _Gridded, floor: Sequence[_Gridded], settings: Settings
) -> Measurement:
    statistic, facts = make_statistic(name), reference.source
    terms = _terms(statistic, reference, candidate)
    value = lower = upper = float("nan")
    if len(terms):
        value = float(statistic.value(terms.mean(axis=0)))
        seed = seed_of("bootstrap", settings.seed, facts.slice_name, facts.explainer, name)
        lower, upper = bootstrap_interval(
            terms, statistic.value, statistic.upper, settings.confidence, settings.resamples, seed
        )
    return Measurement(
        slice=facts.slice_name,
        explainer=facts.explainer,
        statistic=name,
        value=value,
        lower=lower,
        upper=upper,
        ceiling=statistic.upper,
        n=len(terms),
        undefined=len(facts.sample_ids) - len(terms),
        primary=statistic.primary,
        floor=_noise_floor(statistic, reference, floor),
    )


def _noise_floor(statistic: Statistic, reference: _Gridded, floor: Sequence[_Gridded]) -> NoiseFloor:
    retrains = [(each.source.model, _terms(statistic, reference, each)) for each in floor]
    known = [(model, float(statistic.value(terms.mean(axis=0)))) for model, terms in retrains if len(terms)]
    return NoiseFloor(tuple(distance for _, distance in known), tuple(model for model, _ in known))


def _terms(statistic: Statistic, reference: _Gridded, other: _Gridded) -> Array:
    both = reference.source.defined & other.source.defined
    return statistic.terms(reference.maps[both], other.maps[both]) if both.any() else np.empty((0, 1))
