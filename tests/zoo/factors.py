"""Factors: how much farther an honest candidate's evidence moves than stand-ins do, by kind of change."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from making import Zoo
from pairs import Pair
from processes import shared_out
from slices import IMAGES
from versions import stand_ins, version

from attrail_monitoring.maps.pair import Pair as Maps
from attrail_monitoring.maps.pair import Side
from attrail_monitoring.maps.statistic import make_statistic
from attrail_monitoring.maps.strata import BOTH_RIGHT, outcome
from attrail_monitoring.maps.version_maps import MapKey, VersionMaps
from attrail_monitoring.verdict.agreement import mean_in_units
from attrail_monitoring.verdict.policy import Policy

TOGETHER = "together"
SMALLEST = 1e-9
WHOLE = ("coherent_shift", "rank_distance")  # of trainings anew, as over a floor of models
MARKS = ("coherent_shift", "peak_shift")  # of changed weights: their ranks move as those of noise do, mark or none
DECIDES = {"edit": MARKS, "fine-tune": MARKS, "refresh": WHOLE, "retrain": WHOLE}
CHANGES = {"fine-tuned": "fine-tune", "retrain": "retrain", "refreshed": "refresh", "more epochs": "refresh"}


@dataclass(frozen=True)
class Move:
    """How far a pair's candidate moved by one statistic of one explainer, and how far each stand-in did.

    ``images`` are those that champion and candidate decide rightly; ``explainer`` may be all of them TOGETHER.
    """

    pair: Pair
    explainer: str
    statistic: str
    images: int
    distance: float
    stand_ins: tuple[float, ...]

    @property
    def log_ratio(self) -> float:
        """Of the candidate's distance to the geometric mean of the stand-ins'."""
        return float(np.log(max(self.distance, SMALLEST)) - np.log(np.maximum(self.stand_ins, SMALLEST)).mean())


def change_of(pair: Pair) -> str:
    """What would be declared of a candidate: fine-tune, edit, retrain or refresh."""
    name = pair.candidate.name
    return next((change for start, change in CHANGES.items() if name.startswith(start)), _made_of(pair))


def _made_of(pair: Pair) -> str:
    return "edit" if pair.candidate.recipe.parent else "retrain"


def moves(zoo: Zoo, pairs: Sequence[Pair], workers: int) -> list[Move]:
    """The moves of every pair by the statistics that decide."""
    return [each for found in shared_out(partial(moves_of, zoo), pairs, workers) for each in found]


def moves_of(zoo: Zoo, pair: Pair) -> list[Move]:
    champion, candidate = (version(zoo, each, pair.slice, IMAGES) for each in (pair.champion, pair.candidate))
    draws = stand_ins(zoo, pair)
    shared = [each for each in champion.by_subject if all(each in other.by_subject for other in (candidate, *draws))]
    found = []
    for name in DECIDES[change_of(pair)] if shared else ():
        each = [distances(champion, other, shared, name) for other in (candidate, *draws)]
        images = int(outcome(*(next(iter(maps.right.values())) for maps in (champion, candidate)), BOTH_RIGHT).sum())
        columns = {explainer: [row[explainer] for row in each] for explainer in each[0]}
        noise = [column[1:] for column in columns.values()]
        columns[TOGETHER] = [mean_in_units(row, noise) for row in zip(*columns.values(), strict=True)]
        found += [Move(pair, key, name, images, column[0], tuple(column[1:])) for key, column in columns.items()]
    return found


def distances(reference: VersionMaps, other: VersionMaps, subjects: Sequence[MapKey], name: str) -> dict[str, float]:
    """By every explainer, on the images that both decide rightly."""
    statistic, found = make_statistic(name), {}
    for subject in subjects:
        pair = Maps(*(Side.of(each, subject, Policy().settings.grid) for each in (reference, other)))
        rows = dict(pair.strata(Policy().settings.class_images))[pair.headline] & pair.defined
        terms = pair.terms(statistic)[rows]
        found[subject[1]] = float(statistic.value(terms.mean(axis=0))) if len(terms) else float("nan")
    return found


@dataclass(frozen=True)
class Spread:
    """The factor of one kind of change: log ratios of honest candidates, as one more family would show them.

    ``log_sd`` holds what families (``between``) and what candidates within one differ by, known with ``freedom``
    degrees of freedom; ``lowest`` and ``highest`` are ratios.
    """

    log_mean: float
    log_sd: float
    between: float
    freedom: float
    families: int
    models: int
    lowest: float
    highest: float


Place = tuple[str, str, str]  # change, explainers ("each" or "together") and statistic


def spreads(found: Sequence[Move]) -> dict[Place, Spread]:
    """The factors that honest candidates show, of every change that two families or more have."""
    honest: dict[Place, list[Move]] = {}
    for each in found:
        if not each.pair.harmful:
            explainers = TOGETHER if each.explainer == TOGETHER else "each"
            honest.setdefault((change_of(each.pair), explainers, each.statistic), []).append(each)
    seen = {place: spread(known) for place, known in sorted(honest.items(), key=lambda item: item[0])}
    return {place: each for place, each in seen.items() if each.families > 1}


def spread(found: Sequence[Move]) -> Spread:
    """The mean of the families' means, and the spread about it of one candidate of another family.

    Random effects in one layout, estimated by moments, with the degrees of freedom of a sum of mean squares
    (Satterthwaite, Biometrics Bulletin 1946): that of families weighs as much as they differ. Surrogates are one floor
    for all pairs of a family, whose ratios are one observation then: families less one are the most that is known.
    """
    families: dict[tuple[str, str], list[float]] = {}
    for each in found:
        families.setdefault(each.pair.family, []).append(each.log_ratio)
    ratios = [each.log_ratio for each in found]
    count, size = len(families), len(ratios) / len(families)
    means = np.array([np.mean(each) for each in families.values()])
    spare = len(ratios) - count
    within = sum(float(np.var(each)) * len(each) for each in families.values()) / max(spare, 1)
    parts = float(means.var(ddof=1)) if count > 1 else 0.0, within * (1 - 1 / size)
    total = max(sum(parts), within)
    freedom = total**2 / (parts[0] ** 2 / max(count - 1, 1) + parts[1] ** 2 / max(spare, 1))
    if found[0].pair.floor:
        freedom = min(freedom, max(count - 1, 1))
    between = max(0.0, parts[0] - within / size) ** 0.5
    models = len({each.pair.model for each in found})
    extremes = (float(np.exp(end(ratios))) for end in (min, max))
    return Spread(float(means.mean()), total**0.5, between, freedom, count, models, *extremes)
