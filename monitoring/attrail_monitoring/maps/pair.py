"""A pair: two versions' maps of the same images, ready to be measured by any statistic on any stratum."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import IncomparableError
from attrail_monitoring.maps.grid import to_cells, to_grid
from attrail_monitoring.maps.statistic import Statistic
from attrail_monitoring.maps.strata import ALL, BOTH_RIGHT, OUTCOMES, classes, outcome
from attrail_monitoring.maps.version_maps import MapKey, VersionMaps, require_comparable

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]
AT_ONCE = 4096  # images compared together: what a statistic needs in between is many times its terms


@dataclass(frozen=True, eq=False)
class Side:
    """One version's ``maps`` (N,h,w) on the grid of comparison, made of ``source``.

    ``right`` (N,) says which images it decided rightly, ``regions`` (N,h,w) how much of each cell belongs to the region
    where the evidence belongs; None when not known. ``images`` (N,) says which image each map is of, None where each is
    of another.
    """

    source: Attributions
    maps: Array
    right: Rows | None = None
    regions: Array | None = None
    images: NDArray[np.str_] | None = None

    @classmethod
    def of(cls, version: VersionMaps, subject: MapKey, grid: int) -> "Side":
        """A version's maps of one explainer on one slice, averaged over at most ``grid`` x ``grid`` cells.

        Raises IncomparableError when there are none.
        """
        source = version.of(subject)
        maps = to_grid(source.values, grid)
        region = version.regions.get(source.slice_name)
        regions = None if region is None else to_cells(region, *maps.shape[1:])
        return cls(source, maps, version.right.get(source.slice_name), regions, version.images.get(source.slice_name))

    def seen_by(self, statistic: Statistic) -> Array | None:
        """What a statistic compares (N,h,w): the maps, or (N,1,2) their mass inside and outside the regions.

        None when the statistic is about regions and there are none.
        """
        if not getattr(statistic, "regional", False):
            return self.maps
        if self.regions is None:
            return None
        mass = np.abs(self.maps)
        inside = (mass * self.regions).sum(axis=(1, 2))
        return np.stack([inside, mass.sum(axis=(1, 2)) - inside], axis=1)[:, None]


class Pair:
    """Reference and another version on one slice by one explainer. IncomparableError when they are not like with like.

    ``defined`` (N,) marks images with a map in both. Regions are the images': the reference's hold for both.
    """

    def __init__(self, reference: Side, other: Side) -> None:
        require_comparable(reference.source, other.source)
        _require_both_or_neither(reference, other)
        self.reference, self.other = reference, replace(other, regions=reference.regions)
        self.defined: Rows = reference.source.defined & other.source.defined

    @property
    def headline(self) -> str:
        """The stratum on which the verdict rests: images that both decide rightly, all when that is not known."""
        return ALL if self._right is None else BOTH_RIGHT

    def strata(self, class_images: int) -> Iterator[tuple[str, Rows]]:
        """Strata (N,) by name: the headline first, other outcomes, then classes.

        A class has all of its images, however they were decided: it is small, and its floor is measured likewise.
        """
        if self._right is None:
            yield ALL, np.ones(len(self.defined), dtype=np.bool_)
        else:
            yield from ((kind, outcome(*self._right, kind)) for kind in OUTCOMES)
        yield from classes(self.reference.source.targets, class_images)

    def terms(self, statistic: Statistic) -> Array:
        """Per-image terms (N,D) of a statistic, NaN where a version has no map or the statistic lacks its regions."""
        first, second = self.reference.seen_by(statistic), self.other.seen_by(statistic)
        if first is None or second is None or not self.defined.any():
            return np.full((len(self.defined), 1), np.nan)
        known = np.flatnonzero(self.defined)
        some = [known[start : start + AT_ONCE] for start in range(0, len(known), AT_ONCE)]
        found = np.concatenate([statistic.terms(first[rows], second[rows]) for rows in some])
        terms = np.full((len(self.defined), found.shape[1]), np.nan)
        terms[known] = found
        return terms

    @cached_property
    def _right(self) -> tuple[Rows, Rows] | None:
        first, second = self.reference.right, self.other.right
        return None if first is None or second is None else (first, second)


def _require_both_or_neither(reference: Side, other: Side) -> None:
    """Strata need both: with one alone, floor and candidate would be measured on different images."""
    if (reference.right is None) != (other.right is None):
        known, unknown = (reference, other) if other.right is None else (other, reference)
        raise IncomparableError(
            f"it is known which images of slice {reference.source.slice_name!r} {known.source.model} decides rightly, "
            f"but not for {unknown.source.model}: give VersionMaps.right for every version or for none"
        )
