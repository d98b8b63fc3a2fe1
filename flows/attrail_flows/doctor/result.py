"""Finding: what one check of ``attrail doctor`` saw, and what to do about it."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a check ended. A warning is something to know; what is wrong will fail, or would pass for guarded."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True)
class DoctorResult:
    """One line: ``level``, ``what`` is so, and what to ``do``, which only what is not ok has."""

    level: Level
    what: str
    do: str = ""

    def __str__(self) -> str:
        return f"{self.level:9} {self.what}" + (f": {self.do}" if self.do else "")


def ok(what: str) -> DoctorResult:
    return DoctorResult(Level.OK, what)


def warning(what: str, do: str) -> DoctorResult:
    return DoctorResult(Level.WARNING, what, do)


def wrong(what: str, do: str) -> DoctorResult:
    return DoctorResult(Level.WRONG, what, do)
