"""Dates in the slices of a watch: the same file describes every day's windows."""

import re
from datetime import date, timedelta
from pathlib import Path

from attrail_flows.configuration import AuditConfig, SliceSection

DAY = re.compile(r"\{day(?:-(?P<before>\d{1,4}))?\}")


def dated(config: AuditConfig, day: date) -> AuditConfig:
    """The configuration with dates for ``{day}`` and ``{day-7}`` (days before it) in the slices' source and where.

    A date reads as 2026-11-22.
    """
    return config.model_copy(update={"slices": tuple(_dated(each, day) for each in config.slices)})


def _dated(section: SliceSection, day: date) -> SliceSection:
    def written(match: re.Match[str]) -> str:
        return (day - timedelta(days=int(match["before"] or 0))).isoformat()

    where = section.where and DAY.sub(written, section.where)
    return section.model_copy(update={"source": Path(DAY.sub(written, str(section.source))), "where": where})
