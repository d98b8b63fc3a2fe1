"""Strategies: the clusters of maps that came or went, with their shares drawn and pictures of what changed."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.errors import RecordError
from attrail_explainers.slice import Slice
from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.clusters.clusters import Cluster, Clusters
from attrail_monitoring.pictures.overlays import colour_bar, data_uri, png
from attrail_monitoring.report.image_pairs import ImagePair, MapsByRole, Sources
from attrail_monitoring.report.strip_plot import Axis, axis_to

SHOWN = 6  # clusters of one explainer on one slice
EXEMPLARS = 3  # images of each
SIDE = 96  # pixels of their pictures
BEYOND = ("new", "grown", "shrunk", "gone")


@dataclass(frozen=True)
class Strategy:
    """One cluster, its shares ``before`` and ``after``, and an ``axis`` for them.

    ``dots`` are the floor's models. ``count`` images ``came`` to it, or else left it: ``mean`` are both versions' mean
    maps of these, ``exemplars`` some of them by name.
    """

    cluster: Cluster
    before: float
    after: float
    axis: Axis
    dots: tuple[float | None, ...]
    came: bool
    count: int
    mean: ImagePair
    exemplars: tuple[tuple[str, ImagePair], ...]


@dataclass(frozen=True)
class Strategies:
    """The clusters of one explainer on one slice: the ``beyond`` ones of them are those that came or went.

    ``shown`` are the first of those, the furthest moved first. ``judged`` says that the floor's models were at hand;
    without them those count that changed significantly among images.
    """

    found: Clusters
    judged: bool
    beyond: int
    new: int
    shown: tuple[Strategy, ...]
    signed: bool
    bar: str


def strategies_of(record: AuditRecord, maps: MapsByRole, slices: Mapping[str, Slice]) -> list[Strategies]:
    """The strategies of every explainer on every slice; RecordError where the maps are not those of the record."""
    alpha = 1 - record.settings.confidence
    return [
        _strategies(found, Sources.found(found.slice, found.explainer, maps, slices), alpha)
        for found in record.clusters
        if found.clusters
    ]


def _strategies(found: Clusters, sources: Sources, alpha: float) -> Strategies:
    if not len(found.before) == len(found.after) == len(sources.defined):
        raise RecordError(
            f"report: the clusters of {found.explainer} on slice {found.slice!r} are of {len(found.before)} images, "
            f"the slice has {len(sources.defined)}"
        )
    judged = any(each.high is not None for each in found.clusters)
    beyond = [each for each in found.clusters if (each.move in BEYOND if judged else each.p_value <= alpha)]
    beyond.sort(key=lambda each: -abs(each.after - each.before))
    return Strategies(
        found=found,
        judged=judged,
        beyond=len(beyond),
        new=sum(each.move == "new" for each in beyond),
        shown=tuple(_strategy(each, found, sources) for each in beyond[:SHOWN]),
        signed=sources.signed,
        bar=data_uri(png(colour_bar(sources.signed))),
    )


def _strategy(cluster: Cluster, found: Clusters, sources: Sources) -> Strategy:
    before, after = cluster.before / found.images, cluster.after / found.images
    axis = axis_to(max(before, after, *cluster.floor, cluster.high or 0.0), ceiling=1.0)
    came = cluster.came >= cluster.left
    rows = _changed(cluster.name, found, came)
    places = {sample: row for row, sample in enumerate(sources.slice.sample_ids)}
    return Strategy(
        cluster=cluster,
        before=before,
        after=after,
        axis=axis,
        dots=tuple(axis.place(each) for each in cluster.floor),
        came=came,
        count=int(rows.sum()),
        mean=sources.mean(rows, SIDE),
        exemplars=tuple((each, sources.of(places[each], SIDE)) for each in cluster.exemplars[:EXEMPLARS]),
    )


def _changed(name: str, found: Clusters, came: bool) -> NDArray[np.bool_]:
    """The images (N,) that came to a cluster, or that left it."""
    before, after = (np.array(list(each)) == name for each in (found.before, found.after))
    return np.asarray(after & ~before if came else before & ~after)
