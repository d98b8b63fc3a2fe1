"""The windows of a watch, and the dates in them: the same file describes every day's windows."""

import re
from datetime import date, timedelta
from pathlib import Path

from attrail_explainers.errors import ConfigError
from attrail_flows.configuration import AuditConfig
from attrail_flows.sections import SliceSection

DAY = re.compile(r"\{day(?:-(?P<before>\d{1,4}))?\}")


def windows_of(config: AuditConfig, windows: tuple[str, ...]) -> AuditConfig:
    """The configuration with these slices alone, in this order; ConfigError when fewer than two are left."""
    known = {each.name: each for each in config.slices}
    names = windows or list(known)
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no slice {name!r} to watch; the configuration has {', '.join(known)}")
    if len(set(names)) < 2:
        raise ConfigError(f"one window is nothing to compare: {', '.join(names)}; name two slices or more")
    return config.model_copy(update={"slices": tuple(known[name] for name in names)})


def with_dates(config: AuditConfig, day: date) -> AuditConfig:
    """The configuration with dates for ``{day}`` and ``{day-7}`` (days before it) in the slices' source and where.

    A date reads as 2026-11-22.
    """
    return config.model_copy(update={"slices": tuple(_dated(each, day) for each in config.slices)})


def _dated(section: SliceSection, day: date) -> SliceSection:
    def written(match: re.Match[str]) -> str:
        return (day - timedelta(days=int(match["before"] or 0))).isoformat()

    where = section.where and DAY.sub(written, section.where)
    return section.model_copy(update={"source": Path(DAY.sub(written, str(section.source))), "where": where})
