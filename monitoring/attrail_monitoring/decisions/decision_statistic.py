"""What a statistic of decisions is, and how one is found: every file of ``decisions/statistics`` is one."""

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.plugins import Plugins
from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.inference.scale import Scale

Array = NDArray[np.float64]


class DecisionStatistic(Protocol):
    """How far another version's decisions are from the reference's on the same images: 0 = no worse, larger = worse.

    It is a function of the mean of per-image terms, knows no threshold, and lies between ``least`` and ``upper``.
    ``needs`` names what must be known of Decisions, ``scale`` says where honest models scatter evenly, ``margin`` is
    the policy's key for a value too small to matter ("" for none), ``of_classes`` whether single classes are asked too.
    Contracts, held by ``tests/monitoring/decisions/test_decision_statistics.py`` for every file of
    ``decisions/statistics``: 0 on equal decisions, within its range, the same in any order of the images.
    """

    least: ClassVar[float]
    upper: ClassVar[float]
    needs: ClassVar[tuple[str, ...]]
    scale: ClassVar[Scale]
    margin: ClassVar[str]
    of_classes: ClassVar[bool]

    def terms(self, reference: Decisions, other: Decisions) -> Array:
        """Per-image terms (N,D)."""
        ...

    def value(self, mean_terms: Array) -> Array:
        """The value (...) from mean terms (...,D)."""
        ...

    def interval(self, terms: Array, confidence: float, resamples: int, seed: int) -> tuple[float, float]:
        """The ends of the interval of the value over the choice of images."""
        ...

    def level(self, decisions: Decisions) -> float | None:
        """Where one version stands by itself, such as its accuracy; None where that means nothing."""
        ...

    def chance(self, terms: Array, margin: float) -> float | None:
        """The p-value of a true value of at most ``margin``; None where a margin alone decides nothing."""
        ...

    def words(self, value: float, reference: float | None, other: float | None) -> str:
        """The value in words, with the levels of both versions."""
        ...


DECISION_STATISTICS = Plugins("decision statistic", "attrail_monitoring.decisions.statistics", exported="STATISTIC")


def decision_statistic_names() -> list[str]:
    """The names of all statistics of decisions, sorted: those of the files of ``decisions/statistics``."""
    return DECISION_STATISTICS.names()


def make_decision_statistic(name: str) -> DecisionStatistic:
    """The statistic that ``decisions/statistics/NAME.py`` defines; UnknownNameError lists the known names."""
    made: DecisionStatistic = DECISION_STATISTICS.class_of(name)()
    return made
