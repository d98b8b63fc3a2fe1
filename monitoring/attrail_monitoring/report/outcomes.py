"""Strata: each distance among the images that both versions decide rightly, one of them, and neither."""

from collections.abc import Sequence
from dataclasses import dataclass

from attrail_monitoring.maps.strata import OUTCOMES
from attrail_monitoring.verdict.findings import Finding
from attrail_monitoring.verdict.measurement import Measurement


@dataclass(frozen=True)
class StrataRow:
    """One statistic of one explainer on one slice: a measurement for each of OUTCOMES, None where there is none."""

    slice: str
    explainer: str
    statistic: str
    cells: tuple[Measurement | None, ...]


def strata_of(findings: Sequence[Finding]) -> list[StrataRow]:
    """A row for each statistic that was measured in every outcome; none when outcomes were not told apart."""
    found: dict[tuple[str, str, str], dict[str, Measurement]] = {}
    for finding in findings:
        each = finding.measurement
        if each.stratum in OUTCOMES:
            found.setdefault((each.slice, each.explainer, each.statistic), {})[each.stratum] = each
    return [
        StrataRow(*place, tuple(cells.get(kind) for kind in OUTCOMES))
        for place, cells in found.items()
        if len(cells) > 1
    ]
