"""Factors: how many times as far as a cheap stand-in honest versions move, measured on the zoo of ``make zoo``."""

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

FILE = "factors.toml"
Explainers = Literal["each", "together"]


@dataclass(frozen=True)
class Factor:
    """The distance of an honest version in units of its stand-ins' mean distance, as the zoo's families show it.

    ``log_mean`` and ``log_sd`` are of its logarithm, ``freedom`` the degrees of freedom of ``log_sd``, which families
    have and not their models; ``lowest`` and ``highest`` are the ratios seen, not their logarithms. ``decides`` says
    that bounds made with it kept the zoo's error rates on families that were left out, so that DRIFT may be said.
    """

    log_mean: float
    log_sd: float
    freedom: float
    lowest: float
    highest: float
    decides: bool = False

    @property
    def times(self) -> float:
        """How many times as far as its stand-ins an honest version moves: the geometric mean."""
        return math.exp(self.log_mean)


def factors_of(source: str, change: str, explainers: Explainers = "each") -> Mapping[str, Factor]:
    """The factors, by statistic, between floors of a source and honest versions of a declared change; none unmeasured.

    Of "each" explainer, or of what all see "together": they differ from family to family more than their mean does.
    They are written by ``make zoo``, with the families and models that they come from.
    """
    return {
        row["statistic"]: Factor(*(row[name] for name in Factor.__dataclass_fields__))
        for row in _rows()
        if (row["source"], row["change"], row["explainers"]) == (source, change, explainers)
    }


@cache
def _rows() -> tuple[Mapping[str, Any], ...]:
    text = files("attrail_monitoring.floor").joinpath(FILE).read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)["factor"])
