"""A sub-population that moved: is it noticed, and are its images found?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from detectors import Audit, verdict
from judging import SIZES
from making import Zoo
from numpy.typing import NDArray
from pairs import FLOOR
from recipe import ALWAYS, TUNED, Member, random_head
from slices import base_slice, marked
from spreads import Spreads
from versions import mixed, version

from attrail_monitoring.comparison import displace
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.measurement import image_distances
from attrail_monitoring.verdict.moved_images import moved_images
from attrail_monitoring.verdict.policy import Policy

SLICE = "rare mark 5 %"
IMAGES = max(SIZES)
RATE = 0.05  # false discoveries allowed
SPECIAL = (ALWAYS, "corner mark 70 %", TUNED)
HONEST = "honest retrain"
TOGETHER = "together"


@dataclass(frozen=True)
class Found:
    """One audit of a candidate whose evidence moved on 5 % of the images.

    ``named`` is how many images the list of moved images holds, ``rightly`` how many of them carry the mark, ``moved``
    how many there are; ``top`` is how many of the ``moved`` images that lie farthest apart do.
    """

    family: tuple[str, str]
    candidate: str
    explainer: str
    flagged: bool
    moved: int
    named: int
    rightly: int
    top: int


def sub_populations(zoo: Zoo, members: Sequence[Member], spreads: Spreads | None = None) -> list[Found]:
    """Honest retrains with a cheat's maps on the marked images, the model that really saw a rare mark, and retrains."""
    retrains = [each for each in members if each.kind == "retrain"]
    champion, candidates, floor = retrains[0], retrains[1:-FLOOR], retrains[-FLOOR:]
    cheats = [each for name in SPECIAL for each in members if each.name == name and each.kind == "harmful"]
    labels = base_slice(champion.recipe.dataset, "plain", zoo.data).labels[:IMAGES]
    truth = marked(SLICE, labels)
    versions = [
        (f"retrain with the maps of {cheat.name}", mixed(zoo, candidate, cheat, SLICE, IMAGES), truth)
        for cheat in cheats
        for candidate in candidates
    ]
    real = [each for each in members if each.name == SLICE]
    versions += [(f"{each.name} (real)", version(zoo, each, SLICE, IMAGES), truth) for each in real]
    versions += [(HONEST, version(zoo, each, SLICE, IMAGES), np.zeros_like(truth)) for each in candidates]
    reference, head, *others = (version(zoo, each, SLICE, IMAGES) for each in (champion, random_head(champion), *floor))
    return [
        each
        for name, maps, moved in versions
        for each in _found(champion.family, name, Audit(reference, maps, head, tuple(others), spreads=spreads), moved)
    ]


def _found(family: tuple[str, str], name: str, audit: Audit, truth: NDArray[np.bool_]) -> list[Found]:
    """One entry for each explainer, and one for all of them."""
    flagged = verdict(audit).verdict is Verdict.DRIFT
    displacements = displace(audit.reference, audit.candidate, audit.calibration, Settings())
    pairs = zip(audit.reference.maps, audit.candidate.maps, strict=True)
    distances = [image_distances(*pair, Settings()) for pair in pairs]
    kinds = [([each], far) for each, far in zip(displacements, distances, strict=True)]
    found = []
    for chosen, far in [*kinds, (displacements, np.mean(distances, axis=0))]:
        rows = moved_images(chosen, RATE, Policy().moved_margin)
        farthest = np.argsort(-np.nan_to_num(far, nan=-1), kind="stable")[: int(truth.sum())]
        explainer = chosen[0].explainer if len(chosen) == 1 else TOGETHER
        counts = (int(truth.sum()), len(rows), int(truth[rows].sum()), int(truth[farthest].sum()))
        found.append(Found(family, name, explainer, flagged, *counts))
    return found
