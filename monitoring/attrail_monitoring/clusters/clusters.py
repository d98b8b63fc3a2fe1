"""Clusters: the strategies that all versions' maps show together, and who uses which before and after."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_monitoring.clusters.joint_clustering import joint_clusters
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.inference.paired_labels import Change, Homogeneity, changes, homogeneity
from attrail_monitoring.inference.prediction_bound import FEWEST
from attrail_monitoring.inference.share_bounds import share_bounds
from attrail_monitoring.maps.grid import to_grid
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.shares import shares
from attrail_monitoring.maps.version_maps import MapKey, VersionMaps, require_comparable

Array = NDArray[np.float32]
Labels = NDArray[np.int64]
Move = Literal["new", "grown", "steady", "shrunk", "gone", "not judged"]
NAMES = "ABCDEFGHIJKLMNOP"
NO_MAP = "-"
EXEMPLARS = 6
AT_ONCE = 4096  # maps whose shares are taken together
RARE = 0.1  # of the other share, at most: a cluster that one side hardly has


@dataclass(frozen=True)
class Cluster:
    """One strategy: images whose map showed it ``before``, in the reference, and ``after``, in the candidate.

    ``came`` and ``left`` count images that changed, ``p_value`` is McNemar's exact one for any change, adjusted for all
    clusters after Holm. ``floor`` is the share of each floor model's maps, ``low`` and ``high`` (None with fewer than
    four) bound what one more of them would have. Beyond these the cluster has "grown" or "shrunk"; it is "new" when
    reference and floor have at most a tenth of the candidate's share, "gone" the other way round. ``exemplars`` are
    images that came, or where more left those that left, the nearest to the cluster's centre first.
    """

    name: str
    before: int
    after: int
    came: int
    left: int
    p_value: float
    floor: tuple[float, ...]
    low: float | None
    high: float | None
    move: Move
    exemplars: tuple[str, ...]


@dataclass(frozen=True)
class Clusters:
    """All clusters of one explainer on one slice, the largest first, of the ``images`` with a map in both versions.

    ``before`` and ``after`` say for every image of the slice in its order which cluster its map is in, one letter each,
    "-" without a map. ``homogeneity`` tests whether all shares stayed; its unit is the image: that these two versions
    differ does not show that they differ more than two trainings do. For that there is ``shift``, half the sum of all
    changes of shares against the reference, ``floor_shift``, the same of each floor model, and ``shift_p``, the chance
    that one more of them moves as far: their unit is the model. ``floor`` names these models with the digests of their
    maps; it is empty when their maps were not at hand.
    """

    slice: str
    explainer: str
    images: int
    clusters: tuple[Cluster, ...]
    before: str
    after: str
    homogeneity: Homogeneity | None = None
    shift: float | None = None
    floor_shift: tuple[float, ...] = ()
    shift_p: float | None = None
    floor: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, reference: Attributions, candidate: Attributions, floor: Iterable[Attributions], settings: Settings
    ) -> "Clusters":
        """Clusters of both versions' maps and the floor's together; ``floor`` is read one model at a time.

        IncomparableError when the maps are not like with like.
        """
        require_comparable(reference, candidate)
        used = reference.defined & candidate.defined
        subject = (reference.slice_name, reference.explainer, int(used.sum()))
        if not used.any():
            return cls(*subject, clusters=(), before=NO_MAP * len(used), after=NO_MAP * len(used))
        versions, models = [_evidence(each, used, settings) for each in (reference, candidate)], {}
        for each in floor:
            require_comparable(reference, each)
            if (each.defined & used).any():
                versions.append(_evidence(each, used, settings))
                models[each.model] = each.digest
        joint = _Joint.of(versions)
        shift, *floor_shift = joint.shifts
        return cls(
            *subject,
            clusters=joint.described(np.array(reference.sample_ids)[used], settings.confidence),
            before=_written(joint.places[0], used),
            after=_written(joint.places[1], used),
            homogeneity=homogeneity(joint.places[0], joint.places[1], seed=settings.seed),
            shift=shift,
            floor_shift=tuple(floor_shift),
            shift_p=NoiseFloor(tuple(floor_shift)).p_value(shift),
            floor=models,
        )


def clusters_of(
    reference: VersionMaps,
    candidate: VersionMaps,
    floor: Callable[[MapKey], Iterable[Attributions]],
    settings: Settings,
) -> tuple[Clusters, ...]:
    """The clusters of every explainer on every slice; ``floor`` gives the floor models' maps of one of these at a time.

    IncomparableError when a version lacks maps, or they are not like with like.
    """
    return tuple(
        Clusters.of(reference.of(subject), candidate.of(subject), floor(subject), settings)
        for subject in reference.by_subject
    )


@dataclass(frozen=True, eq=False)
class _Joint:
    """The ``versions`` (N,D), reference and candidate first, their ``places`` (V,N) among the clusters, the largest
    first, the clusters' ``centres`` (C,D) and each version's ``shares`` (V,C) of them.
    """

    versions: list[Array]
    places: Labels
    centres: NDArray[np.float64]
    shares: NDArray[np.float64]

    @classmethod
    def of(cls, versions: list[Array]) -> "_Joint":
        found, centres = joint_clusters(versions)
        sizes = np.bincount(np.concatenate(found[:2]), minlength=len(centres))
        order = np.argsort(-sizes, kind="stable")
        ranks = np.append(np.argsort(order), -1)  # a row without a map is at place -1, before and after
        places = ranks[np.stack(found)]
        counts = np.stack([np.bincount(each[each >= 0], minlength=len(centres)) for each in places])
        return cls(versions, places, centres[order], counts / counts.sum(axis=1, keepdims=True))

    @property
    def shifts(self) -> list[float]:
        """Total variation 0..1 between the reference's shares and those of each other version."""
        found: list[float] = (0.5 * np.abs(self.shares[1:] - self.shares[0]).sum(axis=1)).tolist()
        return found

    def described(self, samples: NDArray[np.str_], confidence: float) -> tuple[Cluster, ...]:
        changed = {each.label: each for each in changes(self.places[0], self.places[1])}
        every = [changed.get(each, Change(each, 0, 0, 0, 0, 1.0)) for each in range(len(self.centres))]
        bounds = self._bounds(1 - confidence)
        return tuple(self._cluster(each, ends, samples) for each, ends in zip(every, bounds, strict=True))

    def _bounds(self, tail: float) -> Sequence[tuple[float, float] | None]:
        if len(self.shares) - 2 < FEWEST:
            return [None] * len(self.centres)
        fewest = int((self.places >= 0).sum(axis=1).min())
        low, high = share_bounds(np.delete(self.shares, 1, axis=0), fewest, tail)
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def _cluster(self, change: Change, bounds: tuple[float, float] | None, samples: NDArray[np.str_]) -> Cluster:
        reference, candidate, *floor = self.shares[:, change.label].tolist()
        low, high = bounds or (None, None)
        return Cluster(
            name=NAMES[change.label],
            before=change.before,
            after=change.after,
            came=change.came,
            left=change.left,
            p_value=change.p_value,
            floor=tuple(floor),
            low=low,
            high=high,
            move=_move(candidate, (reference, *floor), bounds),
            exemplars=tuple(str(each) for each in samples[self._exemplars(change)]),
        )

    def _exemplars(self, change: Change) -> NDArray[np.intp]:
        """Rows of images that changed the way most did, the nearest to the centre first."""
        side = int(change.came >= change.left)
        here = self.places[:2] == change.label
        rows = np.flatnonzero(here[side] & ~here[1 - side])
        far = ((self.versions[side][rows] - self.centres[change.label]) ** 2).sum(axis=1)
        return rows[np.argsort(far, kind="stable")[:EXEMPLARS]]


def _evidence(maps: Attributions, used: NDArray[np.bool_], settings: Settings) -> Array:
    """Shares (N,D) of the used images, NaN without a map."""
    grids = to_grid(maps.values, settings.grid)[used]
    found = np.empty((len(grids), grids[0].size), dtype=np.float32)
    for start in range(0, len(grids), AT_ONCE):
        found[start : start + AT_ONCE] = shares(grids[start : start + AT_ONCE])
    found[~maps.defined[used]] = np.nan
    return found


def _move(share: float, others: tuple[float, ...], bounds: tuple[float, float] | None) -> Move:
    if bounds is None:
        return "not judged"
    low, high = bounds
    if share > high:
        return "new" if max(others) <= RARE * share else "grown"
    if share < low:
        return "gone" if share <= RARE * min(others) else "shrunk"
    return "steady"


def _written(places: Labels, used: NDArray[np.bool_]) -> str:
    letters = np.full(len(used), NO_MAP)
    letters[used] = np.array(list(NAMES))[places]
    return "".join(letters)
