"""What a check of explanations is, and how one is found: every file of ``checks/`` is one, under the file's name."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.plugins import Plugins

if TYPE_CHECKING:
    from attrail_explainers.assessment.context import CheckContext


class Better(StrEnum):
    """Which values of a check speak for the explanation."""

    LOWER = "lower is better"
    HIGHER = "higher is better"


@dataclass(frozen=True)
class CheckResult:
    """What a check finds for N images.

    ``values`` (N,) float64, NaN where an image has no map or the quantity does not exist for it. ``details`` holds
    what else was measured, (N,) or (N,K) under each name; under "chance" what a map that knows nothing would get.
    """

    values: NDArray[np.float64]
    details: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


class Check(Protocol):
    """One question to an explanation, answered by one number per image. Its dataclass fields are its parameters.

    ``good`` says in a few words what speaks for the explanation. Contracts, held by ``tests/explainers/checks``
    for every file of ``checks/``: same seed same bytes, whatever the order of images, the batch or the thread; model
    and images untouched; NaN for images without a map.
    """

    better: ClassVar[Better]
    good: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def examine(self, case: "CheckContext") -> CheckResult:
        """The check's answer for every image of the case."""
        ...


CHECKS = Plugins("check", "attrail_explainers.checks", exported="CHECK")


def check_names() -> list[str]:
    """Return the names of all checks, sorted, as ``assess`` and ``attrail check`` take them.

    They are the names of the files of ``checks/``::

        "deletion" in check_names()
    """
    return CHECKS.names()


def check_class(name: str) -> type[Check]:
    """The check that ``checks/NAME.py`` defines; UnknownNameError lists the known names."""
    found: type[Check] = CHECKS.class_of(name)
    return found


def make_check(name: str, parameters: Mapping[str, Any] | None = None) -> Check:
    """Make the check ``name`` with ``parameters``, a frozen dataclass whose fields are all of its parameters.

    Raises UnknownNameError for a name that there is none of, ConfigError for a parameter that the check does not have
    or that cannot have this value::

        found = assess(model, images, targets, checks=[make_check("deletion", {"steps": 16})])
    """
    made: Check = CHECKS.make(name, parameters)
    return made


def name_of_check(check: Check) -> str:
    """The name under which a check is found."""
    return CHECKS.name_of(check)
