"""One version's evidence on a slice, and the pairs of it that may be compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import IncomparableError
from attrail_monitoring.decisions.decisions import Decisions

MapKey = tuple[str, str]  # slice and explainer
Rows = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class VersionMaps:
    """Maps of one model version, one Attributions per slice and explainer.

    ``right`` (N,) says, under the name of a slice, on which images the version decided rightly; without it the verdict
    rests on all images. ``regions`` (N,H,W) marks, under the name of a slice, the pixels where the evidence belongs;
    they are the images', not the version's. ``decisions`` are what the version decided, under the name of a slice: with
    them the verdict is on its decisions too, and ``right`` follows from their labels where it is not given::

        champion = VersionMaps((maps,), decisions={maps.slice_name: Decisions.of(logits, labels)})

    ``images`` (N,) says, under the name of a slice in which several maps are about one image, which image each is of;
    maps of an image stand together.

    Raises IncomparableError when decisions are not about the images of the maps.
    """

    maps: tuple[Attributions, ...]
    right: Mapping[str, Rows] = field(default_factory=dict)
    regions: Mapping[str, Rows] = field(default_factory=dict)
    decisions: Mapping[str, Decisions] = field(default_factory=dict)
    images: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in self.maps:
            decided = self.decisions.get(each.slice_name)
            if decided is not None and len(decided) != len(each.sample_ids):
                raise IncomparableError(
                    f"decisions of {each.model} on slice {each.slice_name!r} are about {len(decided)} images, its maps "
                    f"about {len(each.sample_ids)}: give one decision for each image, in the order of the maps"
                )
        known = {name: each.right for name, each in self.decisions.items() if each.right is not None}
        object.__setattr__(self, "right", known | dict(self.right))

    @property
    def by_subject(self) -> dict[MapKey, Attributions]:
        """The maps by slice and explainer."""
        return {(each.slice_name, each.explainer): each for each in self.maps}

    def of(self, subject: MapKey) -> Attributions:
        """The maps of one explainer on one slice; IncomparableError when there are none."""
        found = self.by_subject.get(subject)
        if found is None:
            slice_name, explainer = subject
            raise IncomparableError(
                f"the reference has maps of {explainer} on slice {slice_name!r}, another version has not: explain all "
                "versions with the same explainers and slices"
            )
        return found


VersionInput = Attributions | Sequence[Attributions] | VersionMaps


def version_maps(maps: VersionInput) -> VersionMaps:
    """The maps of one version in their usual form."""
    if isinstance(maps, VersionMaps):
        return maps
    return VersionMaps((maps,) if isinstance(maps, Attributions) else tuple(maps))


def require_comparable(reference: Attributions, other: Attributions) -> None:
    """Raise IncomparableError unless explainer, parameters, seed, slice, samples, targets and grid are all the same."""
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
