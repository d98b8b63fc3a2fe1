"""Rules over the measurements table, as Great Expectations expectations for a user's own suite or the configuration.

The table has one row per slice, explainer and statistic: ``measurements.csv``, or ``Finding.row`` of every finding.
Whoever loads a stored suite with these expectations imports this module before: Great Expectations leaves out what it
does not know and only logs that; ``attrail_monitoring.expectations.rule_tables.read_suite`` refuses such a suite.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

import pandas as pd
from great_expectations.compatibility import pydantic

from attrail_monitoring.expectations.row_expectation import (
    SUBJECT,
    Judged,
    MeasurementExpectation,
    Row,
    number,
    place,
    plain,
    subject,
)
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.verdict.policy import Policy

Parameter = dict[str, Any]  # {"$PARAMETER": name}: a number filled in when the suite is run
TIERS = "ABCD"  # noise floors with a bound, the strongest evidence first


class DriftExpectation(MeasurementExpectation, ABC):
    """The whole interval of a distance lies below a limit, images without a map counted at their worst.

    As in ``Policy``, an image without a map in one of the versions may have moved as far as the statistic allows, and
    with fewer than ``fewest_images``, or where the explainer is unfit (column ``unfit``), there is no evidence.
    """

    fewest_images: pydantic.PositiveInt = Policy.fewest_images

    reads: ClassVar[tuple[str, ...]] = ("upper", "n", "undefined")

    @abstractmethod
    def limit(self, row: Row) -> float | str:
        """The limit for a row, or a clause that says why there is none."""

    def judge(self, row: Row) -> Judged:
        reach, limit, ceiling = self._reach(row), self.limit(row), _ceiling(row)
        if isinstance(reach, str):
            return Judged(False, None, f"{subject(row)} {reach}")
        if isinstance(limit, str):
            return Judged(False, reach, f"{subject(row)} {limit}")
        if ceiling is not None and limit >= ceiling:
            return Judged(False, reach, f"{subject(row)} cannot exceed {plain(ceiling)}: {plain(limit)} is no limit")
        worst = " at worst" if number(row, "undefined") else ""
        beyond = "" if reach < limit else f", not below {plain(limit)}"
        return Judged(reach < limit, reach, f"{subject(row)} reaches {plain(reach)}{worst}{beyond}")

    def _reach(self, row: Row) -> float | str:
        """How far the evidence may have moved at worst, or why that is not known."""
        upper, images, undefined = (number(row, name) for name in ("upper", "n", "undefined"))
        unfit = row.get("unfit", False)
        if pd.isna(unfit) or unfit:
            return "cannot be measured, the explainer is unfit"
        if upper is None or images is None or undefined is None:
            return "has no interval"
        if images < self.fewest_images:
            return f"is known from {images:.0f} images only"
        if not undefined:
            return upper
        ceiling = _ceiling(row)
        if ceiling is None:
            return f"is unknown for {undefined:.0f} images without a map"
        return upper + undefined * (ceiling - upper) / (images + undefined)


class ExpectAttributionDriftToStayBelowMargin(DriftExpectation):
    """Expect the upper end of a distance's interval to lie below ``margin``, in the statistic's own units.

    A margin that the statistic cannot exceed is none: such a rule fails.
    """

    statistic: str
    margin: float | Parameter

    success_keys: ClassVar[tuple[str, ...]] = (*SUBJECT, "margin", "fewest_images")

    @pydantic.validator("margin", pre=True)
    def _require_margin(cls, margin: Any) -> Any:  # noqa: N805 - pydantic makes it a class method
        return _require_number(margin, "a number above 0", lambda value: value > 0)

    @classmethod
    def expected(cls, kwargs: Mapping[str, Any]) -> str:
        margin, fewest = plain(kwargs["margin"]), kwargs["fewest_images"]
        return (
            f"{subject(kwargs)} stays below the margin {margin} with its whole interval, over at least {fewest} images"
        )

    def limit(self, row: Row) -> float | str:
        return _filled(self.margin)


class ExpectAttributionDriftToStayWithinFloor(DriftExpectation):
    """Expect the upper end of a distance's interval to lie below the noise floor's bound in the same row.

    ``weakest_tier`` is the weakest floor that counts, see ``attrail_monitoring.floor.noise_floor.TIERS``.
    """

    weakest_tier: Literal["A", "B", "C", "D"] = "C"

    reads: ClassVar[tuple[str, ...]] = (*DriftExpectation.reads, "floor", "floor_tier")
    success_keys: ClassVar[tuple[str, ...]] = (*SUBJECT, "weakest_tier", "fewest_images")

    @classmethod
    def expected(cls, kwargs: Mapping[str, Any]) -> str:
        tier, fewest = kwargs["weakest_tier"], kwargs["fewest_images"]
        floor = f"a noise floor of tier {tier}" + (" or better" if tier != TIERS[0] else "")
        return f"{subject(kwargs)} stays within {floor} with its whole interval, over at least {fewest} images"

    def limit(self, row: Row) -> float | str:
        floor, tier = number(row, "floor"), str(row["floor_tier"])
        if floor is None:
            return "has no noise floor"
        if tier not in TIERS[: TIERS.index(self.weakest_tier) + 1]:
            return f"has a noise floor of tier {tier}, {self.weakest_tier} or better is needed"
        return floor


class ExpectUndefinedMapsToStayBelow(MeasurementExpectation):
    """Expect the share of images without a map in one of the versions to lie below ``share`` (above 0, at most 1)."""

    share: float | Parameter

    reads: ClassVar[tuple[str, ...]] = ("n", "undefined")
    success_keys: ClassVar[tuple[str, ...]] = (*SUBJECT, "share")

    @pydantic.validator("share", pre=True)
    def _require_share(cls, share: Any) -> Any:  # noqa: N805 - pydantic makes it a class method
        return _require_number(share, "a number above 0, at most 1", lambda value: 0 < value <= 1)

    @classmethod
    def expected(cls, kwargs: Mapping[str, Any]) -> str:
        return f"the share of images without a map by {place(kwargs)} stays below {plain(kwargs['share'])}"

    def judge(self, row: Row) -> Judged:
        images, undefined = number(row, "n"), number(row, "undefined")
        if images is None or undefined is None or not images + undefined:
            return Judged(False, None, f"{place(row)} does not say how many images have a map")
        share = undefined / (images + undefined)
        found = f"{undefined:.0f} of {images + undefined:.0f} images lack a map by {place(row)}"
        return Judged(share < _filled(self.share), share, found)


class ExpectEveryPrimaryVerdictToBe(MeasurementExpectation):
    """Expect every primary finding's verdict to be ``verdict``: PASS, DRIFT or INCONCLUSIVE, or one of a list.

    A finding that the audit does not count because the explainer is unfit is INCONCLUSIVE, and counts here.
    """

    verdict: list[Literal["PASS", "DRIFT", "INCONCLUSIVE"]]

    reads: ClassVar[tuple[str, ...]] = ("verdict",)
    success_keys: ClassVar[tuple[str, ...]] = (*SUBJECT, "verdict")

    @pydantic.validator("verdict", pre=True)
    def _listed(cls, verdict: Any) -> Any:  # noqa: N805 - pydantic makes it a class method
        return [verdict] if isinstance(verdict, str) else verdict

    @pydantic.validator("verdict")
    def _require_verdict(cls, verdict: list[str]) -> list[str]:  # noqa: N805 - pydantic makes it a class method
        if not verdict:
            raise ValueError("expected at least one verdict")
        return verdict

    @classmethod
    def expected(cls, kwargs: Mapping[str, Any]) -> str:
        about = subject(kwargs).replace("every statistic", "every primary statistic")
        return f"the verdict on {about} is {' or '.join(kwargs['verdict'])}"

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        rows = super().rows(table)
        return rows[rows["primary"].astype(bool)]

    def judge(self, row: Row) -> Judged:
        verdict = str(row["verdict"])
        reason = row.get("reason")
        because = f" ({reason})" if isinstance(reason, str) else ""
        return Judged(verdict in self.verdict, verdict, f"{subject(row)} is {verdict}{because}")


def rule_kinds() -> dict[str, type[MeasurementExpectation]]:
    """Every expectation over the measurements table by its name in a configuration file."""
    return {each.expectation_type.removeprefix("expect_"): each for each in _concrete(MeasurementExpectation)}


def _concrete(kind: type[Any]) -> list[type[MeasurementExpectation]]:
    below = [each for child in kind.__subclasses__() for each in _concrete(child)]
    return below if kind.is_abstract() else [kind, *below]


def _ceiling(row: Row) -> float | None:
    """The largest distance that a row's statistic can have, None for one that is not known here."""
    name = str(row["statistic"])
    return make_statistic(name).upper if name in statistic_names() else number(row, "ceiling")


def _filled(value: float | Parameter) -> float:
    """A threshold once the suite is run; a parameter that was not filled in is an error."""
    if isinstance(value, dict):
        raise ValueError(f"the suite parameter {value['$PARAMETER']} was not given")
    return float(value)


def _require_number(value: Any, wanted: str, fits: Callable[[float], bool]) -> Any:
    """A threshold that means something; a suite parameter is checked when it is filled in."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not fits(value):
        raise ValueError(f"expected {wanted}")
    return value
