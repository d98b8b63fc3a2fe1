"""The images that moved most between two versions, by name."""

from dataclasses import dataclass

import numpy as np

from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.strata import outcomes
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.verdict.measurement import image_distances

NAMED = 20


@dataclass(frozen=True)
class RankedImage:
    """One image and the rank distance (0..2) of its two maps by one explainer.

    ``outcome`` says how both versions decided: maps move when the decision does. "" when that is not known.
    """

    slice: str
    explainer: str
    sample: str
    distance: float
    outcome: str = ""


def most_moved(
    reference: VersionMaps, candidate: VersionMaps, settings: Settings, count: int = NAMED
) -> tuple[RankedImage, ...]:
    """The ``count`` images of each slice and explainer whose maps lie furthest apart, the furthest first.

    A ranking, no test: some image moves most between any two versions. IncomparableError when a version lacks maps.
    """
    found: list[RankedImage] = []
    for name, explainer in reference.by_subject:
        first, second = (each.of((name, explainer)) for each in (reference, candidate))
        distances = image_distances(first, second, settings)
        order = [row for row in np.argsort(-distances, kind="stable") if np.isfinite(distances[row])][:count]
        known = name in reference.right and name in candidate.right
        kinds = outcomes(reference.right[name], candidate.right[name]) if known else [""] * len(distances)
        found += (
            RankedImage(name, explainer, first.sample_ids[row], float(distances[row]), kinds[row]) for row in order
        )
    return tuple(found)
