"""Measure: what the maps say, before any threshold is read."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.digest import seed_of
from attrail_monitoring.floor.calibration import Calibration, MeasuredAt
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.inference.bootstrap import Images, bootstrap_interval
from attrail_monitoring.inference.mcnemar import mcnemar
from attrail_monitoring.maps.grid import to_grid
from attrail_monitoring.maps.pair import Pair, Side
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import Statistic, make_statistic, statistic_names
from attrail_monitoring.maps.strata import ALL, is_class
from attrail_monitoring.maps.version_maps import VersionMaps

Array = NDArray[np.float64]
Rows = NDArray[np.bool_]


@dataclass(frozen=True)
class Measurement:
    """One statistic of one explainer on one stratum of one slice, candidate against reference.

    ``value`` with ``lower`` and ``upper`` ends of its interval over images (NaN where no image is defined in both),
    ``worst`` the upper end if every image that one version alone has a map of had moved as far as it can, ``ceiling``
    the statistic's largest possible value, ``n`` images used, ``undefined`` images of the stratum without a map in
    either version, ``lost`` those of them that have one in the reference and ``lost_p`` the chance that the candidate
    lost so many more than it gained (McNemar, one-sided), ``floor`` the same distance for each model of the noise
    floor. ``primary`` measurements are the hypotheses of an audit; those of a class are its ``localised`` ones::

        moved = {each.measurement.statistic: each.measurement.value for each in report.findings}
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
    stratum: str = ALL
    localised: bool = False
    lost: int = 0
    lost_p: float = 1.0
    worst: float = math.inf


def measure(
    reference: VersionMaps, candidate: VersionMaps, calibration: Calibration, settings: Settings
) -> list[Measurement]:
    """Every statistic of every explainer on every slice and stratum.

    IncomparableError when the maps are not like with like.
    """
    measured: list[Measurement] = []
    for subject in reference.by_subject:
        calibration.require_made_for(reference.of(subject))
        sides = (Side.of(each, subject, settings.grid) for each in (reference, candidate))
        measured += _measured(Pair(*sides), calibration, settings)
    return measured


def image_distances(reference: Attributions, candidate: Attributions, settings: Settings) -> Array:
    """Rank distance (N,) of each image's two maps, NaN where either is undefined: which images moved most."""
    distances = np.full(len(reference.sample_ids), np.nan)
    both = reference.defined & candidate.defined
    if both.any():
        first, second = (to_grid(each.values, settings.grid)[both] for each in (reference, candidate))
        distances[both] = make_statistic("rank_distance").terms(first, second)[:, 0]
    return distances


def _measured(pair: Pair, calibration: Calibration, settings: Settings) -> Iterator[Measurement]:
    source = pair.reference.source
    strata = list(pair.strata(settings.class_images))
    for name in statistic_names():
        statistic = make_statistic(name)
        if pair.reference.seen_by(statistic) is None:
            continue
        terms = pair.terms(statistic)
        for stratum, rows in strata:
            if stratum == pair.headline or calibration.decides(name):
                place = MeasuredAt(source.slice_name, source.explainer, name, stratum)
                yield _measurement(place, statistic, terms, pair, rows, calibration, settings)


def _measurement(
    place: MeasuredAt,
    statistic: Statistic,
    terms: Array,
    pair: Pair,
    rows: Rows,
    calibration: Calibration,
    settings: Settings,
) -> Measurement:
    used, decides = terms[rows & pair.defined], calibration.decides(place.statistic)
    seed = seed_of("bootstrap", settings.seed, *place)
    images = pair.reference.images
    known, whose = rows & pair.defined, None if images is None else images[rows]
    value, lower, upper = (math.nan,) * 3
    if len(used):
        value, lower, upper = _estimate(statistic, used, settings, seed, None if images is None else images[known])
    missing, lost = (~side.source.defined[rows] for side in (pair.reference, pair.other))
    gone, either = mcnemar(missing, lost, "greater", whose), ~(missing & lost)
    worst = upper
    if len(used) != either.sum():
        some = terms[rows][either], None if whose is None else whose[either]
        worst = _worst(statistic, *some, upper, settings, seed)
    return Measurement(
        slice=place.slice,
        explainer=place.explainer,
        statistic=place.statistic,
        value=value,
        lower=lower,
        upper=upper,
        ceiling=statistic.upper,
        n=len(used),
        undefined=int(rows.sum()) - len(used),
        primary=decides and place.stratum == pair.headline,
        floor=calibration.floor(place),
        stratum=place.stratum,
        localised=decides and is_class(place.stratum),
        lost=gone.only_second,
        lost_p=gone.p_value,
        worst=worst,
    )


def _estimate(
    statistic: Statistic, terms: Array, settings: Settings, seed: int, images: Images | None
) -> tuple[float, float, float]:
    """Value and the ends of its interval over images."""
    value = float(statistic.value(terms.mean(axis=0)))
    drawn = (settings.confidence, settings.resamples, seed)
    return value, *bootstrap_interval(terms, statistic.value, statistic.upper, *drawn, images=images)


def _worst(
    statistic: Statistic, terms: Array, images: Images | None, upper: float, settings: Settings, seed: int
) -> float:
    """The interval's upper end if every image with one map, a row of NaN, had moved as far as the statistic allows.

    Statistics are norms of the mean of per-image terms, so such an image adds at most ceiling / images, in each
    resample as often as it is drawn. Without this, a candidate could pass by losing the maps of the images that moved.
    Images that neither version has a map of are none of them: both versions show the same, no evidence.
    Never below ``upper``, that of the other images, whatever the resamples' own error.
    """
    missing = np.asarray(np.isnan(terms).any(axis=1))
    known = np.column_stack([np.where(missing[:, None], 0, terms), missing * statistic.upper])
    whole = bootstrap_interval(
        known,
        lambda mean: statistic.value(mean[..., :-1]) + mean[..., -1],
        statistic.upper,
        settings.confidence,
        settings.resamples,
        seed,
        images=images,
    )
    return float(np.fmax(whole[1], upper))
