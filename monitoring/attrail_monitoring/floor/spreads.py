"""Spreads: how much the distances of honest models scatter, measured on the zoo of ``make zoo``.

Five models tell their own spread so badly that a bound from them alone is often wider than any move. On the zoo the
spread of log distances hardly differs from one family of models to another; what it is there helps a floor along.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from attrail_monitoring.inference.shared_spread import SharedSpread

FILE = "spreads.toml"
MOST = 4.0  # degrees of freedom it counts for: no more than five models of one's own


@cache
def spreads_of(source: str) -> Mapping[str, SharedSpread]:
    """The spread of log distances by statistic, of one explainer and a floor of this source; none unmeasured.

    It is written by ``make zoo`` with the families and floors that it comes from, its freedom fitted to how much they
    differ (``inference.shared_spread``).
    """
    text = files("attrail_monitoring.floor").joinpath(FILE).read_text(encoding="utf-8")
    rows = (row for row in tomllib.loads(text)["spread"] if row["source"] == source)
    return {row["statistic"]: SharedSpread(row["log_sd"] ** 2, min(row["freedom"], MOST)) for row in rows}
