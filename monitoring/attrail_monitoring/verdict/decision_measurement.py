"""Measure decisions: how far the candidate's are from the reference's, before any threshold is read."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.digest import seed_of
from attrail_monitoring.decisions.decision_statistic import DecisionStatistic, make_decision_statistic
from attrail_monitoring.floor.calibration import Calibration
from attrail_monitoring.floor.decision_floors import Compared, DecisionFloor, compared
from attrail_monitoring.inference.bootstrap import Images, bootstrap_interval, numbers_of
from attrail_monitoring.inference.paired_shares import chance_by_images
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.strata import is_class
from attrail_monitoring.maps.version_maps import VersionMaps

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DecisionMeasurement:
    """One statistic of decisions on one stratum of one slice, candidate against reference.

    ``value`` with the ends of its interval over images, ``reference`` and ``candidate`` where each version stands by
    itself (its accuracy, say; None where that means nothing), ``terms`` (N,D) the images', ``floor`` the same value for
    each model of the noise floor. Those of a single class are ``localised``. ``images`` (N,) names the image that each
    row of terms is about, None where each is about another.
    """

    slice: str
    statistic: str
    stratum: str
    value: float
    lower: float
    upper: float
    reference: float | None
    candidate: float | None
    terms: NDArray[np.float64] = field(repr=False, compare=False)
    floor: DecisionFloor = field(default_factory=DecisionFloor)
    images: Images | None = field(default=None, repr=False, compare=False)

    @property
    def localised(self) -> bool:
        return is_class(self.stratum)

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.terms)

    def chance(self, margin: float) -> float | None:
        """The p-value of a true value of at most ``margin``; None where a margin alone decides nothing."""
        found = make_decision_statistic(self.statistic).chance(self.terms, margin)
        if found is None or self.images is None:
            return found
        return max(found, chance_by_images(self.terms[:, 0], self.images, margin))

    @property
    def words(self) -> str:
        """The value in words: "accuracy fell from 72.0 % to 33.1 %"."""
        return make_decision_statistic(self.statistic).words(self.value, self.reference, self.candidate)


def measure_decisions(
    reference: VersionMaps, candidate: VersionMaps, calibration: Calibration, settings: Settings
) -> list[DecisionMeasurement]:
    """Every statistic of decisions on every slice and class; none where decisions are not known.

    IncomparableError when they are known of one version alone, or are not about the same images.
    """
    return [
        _measurement(each, calibration.decision_floor(each.place), settings)
        for each in compared(reference, candidate, settings.class_images)
    ]


def _measurement(pair: Compared, floor: DecisionFloor, settings: Settings) -> DecisionMeasurement:
    place, statistic = pair.place, pair.statistic
    terms = statistic.terms(pair.reference, pair.other)
    seed = seed_of("decisions", settings.seed, *place)
    lower, upper = _interval(statistic, terms, pair.reference.images, settings, seed)
    return DecisionMeasurement(
        *place,
        value=float(statistic.value(terms.mean(axis=0))),
        lower=lower,
        upper=upper,
        reference=statistic.level(pair.reference),
        candidate=statistic.level(pair.other),
        terms=terms,
        floor=floor,
        images=pair.reference.images,
    )


def _interval(
    statistic: DecisionStatistic, terms: Array, images: Images | None, settings: Settings, seed: int
) -> tuple[float, float]:
    """The interval over images; where several decisions are about one, never narrower than if each stood for itself.

    Resamples of images in which nothing differs tell nothing: then as many decisions count as there are images.
    """
    drawn = (settings.confidence, settings.resamples, seed)
    if images is None:
        return statistic.interval(terms, *drawn)
    if not np.ptp(terms, axis=0).any():
        return statistic.interval(terms[: int(numbers_of(images)[-1]) + 1], *drawn)
    alone = statistic.interval(terms, *drawn)
    low, high = bootstrap_interval(
        terms, statistic.value, statistic.upper, *drawn, least=statistic.least, images=images
    )
    return min(low, alone[0]), max(high, alone[1])
