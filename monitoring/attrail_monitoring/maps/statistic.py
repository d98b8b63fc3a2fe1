"""What a statistic is, and how one is found: every file of ``statistics/`` is one, under the file's name."""

from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.plugins import Plugins

Array = NDArray[np.float64]


class Statistic(Protocol):
    """A distance between two versions' maps of the same images: 0 = they agree, larger = further apart.

    Every statistic is a function of the mean of per-image terms, so that one resampling of images serves all of them
    and shards can be added up; and a norm of that mean, so that images without a map can be bounded. It knows no
    threshold. Contracts, held by ``tests/monitoring/statistics/test_statistics.py`` for
    every file of ``statistics/``: 0 on equal maps, symmetric, at most ``upper``. One that declares ``regional = True``
    gets, instead of maps, their mass inside and outside each image's region as two cells (N,1,2).
    """

    upper: ClassVar[float]
    primary: ClassVar[bool]

    def terms(self, reference: Array, candidate: Array) -> Array:
        """Per-image terms (N,D) of maps (N,H,W)."""
        ...

    def value(self, mean_terms: Array) -> Array:
        """The distance (...) from mean terms (...,D)."""
        ...


STATISTICS = Plugins("statistic", "attrail_monitoring.statistics", exported="STATISTIC")


def statistic_names() -> list[str]:
    """Return the names of all statistics, sorted, as findings and ``Policy.margins`` have them.

    They are the names of the files of ``statistics/``::

        "rank_distance" in statistic_names()
    """
    return STATISTICS.names()


def make_statistic(name: str) -> Statistic:
    """The statistic that ``statistics/NAME.py`` defines; UnknownNameError lists the known names."""
    made: Statistic = STATISTICS.class_of(name)()
    return made
