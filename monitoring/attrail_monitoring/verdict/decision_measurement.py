"""Measure decisions: how far the candidate's are from the reference's, before any threshold is read."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.digest import seed_of
from attrail_monitoring.decisions.decision_statistic import make_decision_statistic
from attrail_monitoring.floor.calibration import Calibration
from attrail_monitoring.floor.decision_floors import Compared, DecisionFloor, compared
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.strata import is_class
from attrail_monitoring.maps.version_maps import VersionMaps


@dataclass(frozen=True)
class DecisionMeasurement:
    """One statistic of decisions on one stratum of one slice, candidate against reference.

    ``value`` with the ends of its interval over images, ``reference`` and ``candidate`` where each version stands by
    itself (its accuracy, say; None where that means nothing), ``terms`` (N,D) the images', ``floor`` the same value for
    each model of the noise floor. Those of a single class are ``localised``.
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

    @property
    def localised(self) -> bool:
        return is_class(self.stratum)

    @property
    def n(self) -> int:
        """The number of images."""
        return len(self.terms)

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
    lower, upper = statistic.interval(terms, settings.confidence, settings.resamples, seed)
    return DecisionMeasurement(
        *place,
        value=float(statistic.value(terms.mean(axis=0))),
        lower=lower,
        upper=upper,
        reference=statistic.level(pair.reference),
        candidate=statistic.level(pair.other),
        terms=terms,
        floor=floor,
    )
