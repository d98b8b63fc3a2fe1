"""Rules as plain tables, the ``[[rule]]`` of a configuration file, and the suite that they make."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import great_expectations as gx
import pandas as pd
from great_expectations.compatibility import pydantic
from great_expectations.exceptions import GreatExpectationsError
from great_expectations.expectations.expectation import Expectation

from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_monitoring.expectations.row_expectation import SUBJECT, MeasurementExpectation
from attrail_monitoring.expectations.rules import rule_kinds
from attrail_monitoring.expectations.validation import Validation, validate
from attrail_monitoring.verdict.findings import DriftReport, Verdict

BLOCKING = "critical"  # Great Expectations' severity of a rule that says nothing else
NOTES = "Rules of this configuration over the measurements of the audit."


def rules_of(
    tables: Sequence[Mapping[str, Any]], known: Mapping[str, Collection[str]] | None = None
) -> tuple[MeasurementExpectation, ...]:
    """Expectations of the ``[[rule]]`` tables of a configuration file.

    ``expect`` is a name of ``rule_kinds``; every other key is one of that expectation's, or ``name`` (the rule's own),
    ``severity`` (critical, warning or info) and ``description`` (a sentence to be shown in place of ours). ``known``
    are the names that "slice", "explainer" and "statistic" may have. ConfigError names the rule and its key.
    """
    return tuple(_rule(f"rule {place}", table, known or {}) for place, table in enumerate(tables, start=1))


def validate_measurements(rows: pd.DataFrame, rules: Sequence[Expectation], name: str = "rules") -> Validation:
    """Hold the measurements table against rules: ours, or any other expectation of Great Expectations.

    Great Expectations' own leave out rows without a value, where ours fail. Raises ConfigError when a rule cannot be
    evaluated, as on a table that lacks a column, or when there is no rule.
    """
    if not rules:
        raise ConfigError(f"suite {name} has no rule: nothing that is not asked for can hold")
    index = [each for each in SUBJECT if each in rows]
    return validate(name, rows, rules, index=index, error=ConfigError, notes=NOTES)


def with_rules(report: DriftReport, validation: Validation) -> DriftReport:
    """The report, no PASS while a rule of severity critical is not met: INCONCLUSIVE, and why.

    A rule demands what the policy does not, so that breaking it is no DRIFT; but nobody may promote on such an audit.
    Rules of severity warning and info are only shown.
    """
    failed = [each.observed.rstrip(".") for each in validation.checks if not each.success and each.severity == BLOCKING]
    if not failed or report.verdict is not Verdict.PASS:
        return report
    more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    reason = f"a [[rule]] was not met: {failed[0]}{more}; without rules it would be PASS: {report.reason}"
    step = "meet the rule, or correct it: expectations.html in the run's artifacts has every rule"
    return replace(report, verdict=Verdict.INCONCLUSIVE, reason=reason, next_step=step)


def read_suite(document: Mapping[str, Any]) -> gx.ExpectationSuite:
    """A suite from its JSON. Raises ConfigError on an expectation that is not known or not valid.

    Great Expectations itself leaves such an expectation out, and a suite without it passes.
    """
    try:
        suite = gx.ExpectationSuite(**document)
    except (GreatExpectationsError, pydantic.ValidationError, TypeError, ValueError) as error:
        raise ConfigError(f"suite {document.get('name')!r} cannot be read: {' '.join(str(error).split())}") from error
    kinds = [str(each.get("type")) for each in document.get("expectations", ())]
    for each in suite.expectations:
        kinds.remove(each.expectation_type)
    if kinds:
        raise ConfigError(f"suite {suite.name!r}: {', '.join(kinds)} is not known or not valid; import what defines it")
    return suite


def _rule(place: str, table: Mapping[str, Any], known: Mapping[str, Collection[str]]) -> MeasurementExpectation:
    values, kinds = dict(table), rule_kinds()
    if "expect" not in values:
        raise ConfigError(f"{place}: key 'expect' is missing: known are {', '.join(sorted(kinds))}")
    expect = str(values.pop("expect"))
    if expect not in kinds:
        raise UnknownNameError.of(f"expectation in {place}", expect, kinds)
    kind = kinds[expect]
    _require_known(f"{place} ({expect})", values, kind, known)
    name = values.pop("name", None)
    try:
        return kind(**values, meta=None if name is None else {"name": str(name)})
    except pydantic.ValidationError as error:
        raise ConfigError(f"{place} ({expect}): {_first(error, values)}") from error


def _require_known(
    place: str, values: Mapping[str, Any], kind: type[MeasurementExpectation], known: Mapping[str, Collection[str]]
) -> None:
    keys = (*kind.success_keys, "name", "severity", "description")
    for key, value in values.items():
        if key not in keys:
            raise UnknownNameError.of(f"key in {place}", key, keys)
        if isinstance(value, Mapping):
            raise ConfigError(f"{place}: key {key!r} must be a plain value, got {value!r}")
        if key in known and value not in list(known[key]):
            raise UnknownNameError.of(f"{key} in {place}", value, known[key])


def _first(error: pydantic.ValidationError, values: Mapping[str, Any]) -> str:
    """The first thing pydantic found wrong, in one sentence."""
    first = error.errors()[0]
    key = str(first["loc"][0])
    if key not in values:
        return f"key {key!r} is missing"
    return f"key {key!r}: {first['msg']}, got {values[key]!r}"
