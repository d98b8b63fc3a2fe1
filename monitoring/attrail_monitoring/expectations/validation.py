"""Validation: hold a table against a Great Expectations suite, and say in words what came out."""

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from string import Template
from typing import Any

import pandas as pd

from attrail_explainers.errors import AttrailError

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx  # it reads the variable above when it is imported
from great_expectations.data_context import AbstractDataContext
from great_expectations.data_context.data_context.context_factory import project_manager
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.exceptions import DataContextRequiredError, GreatExpectationsError
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.render.renderer.inline_renderer import InlineRenderer

SHOWN = 3  # rows that a sentence names


@dataclass(frozen=True)
class ExpectationResult:
    """One expectation in words: what was expected, what was observed and whether they agree.

    ``name`` is the one its author gave it, "" for none; ``severity`` is Great Expectations' critical, warning or info.
    """

    expected: str
    observed: str
    success: bool
    severity: str
    name: str


@dataclass(frozen=True)
class Validation:
    """What a suite said: ``result`` is strict JSON, ``failures`` one sentence for each expectation that failed.

    ``suite`` is the suite itself as JSON, which ``rule_tables.read_suite`` reads; ``checks`` the same result in words,
    in the suite's order.
    """

    name: str
    result: dict[str, Any]
    failures: tuple[str, ...]
    suite: dict[str, Any]
    checks: tuple[ExpectationResult, ...]

    @property
    def success(self) -> bool:
        """Whether every expectation of the suite was met."""
        return not self.failures


def validate(
    name: str,
    rows: pd.DataFrame,
    expectations: Sequence[Expectation],
    index: Sequence[str],
    error: type[AttrailError],
    notes: str = "",
) -> Validation:
    """Hold a table against expectations; an exception inside one is an ``error``, never a failed expectation.

    ``index`` names the columns that say in the result which row it was; ``notes`` says what the suite is for.
    """
    form = {"result_format": "COMPLETE", "unexpected_index_column_names": list(index)}
    suite = gx.ExpectationSuite(name=name, expectations=[copy(each) for each in expectations], notes=notes)
    kept = strict(suite.to_json_dict())
    with ephemeral_context() as context:
        asset = context.data_sources.add_pandas("attrail").add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": rows})
        try:
            result = strict(batch.validate(suite, result_format=form).to_json_dict())
        except (GreatExpectationsError, ValueError, TypeError) as fault:
            raise error(f"suite {name} could not be evaluated: {fault}") from fault
        _require_evaluated(name, result, error)
        if len(result["results"]) != len(expectations):
            raise error(f"suite {name}: {len(result['results'])} of {len(expectations)} expectations were evaluated")
        checks = tuple(_check(each) for each in result["results"])
    failures = tuple(_failure(each) for each in result["results"] if not each["success"])
    return Validation(name, result, failures, kept, checks)


@contextmanager
def ephemeral_context() -> Iterator[AbstractDataContext]:
    """A context in memory, silent; the process-wide one that its making replaces is put back, it may be a user's."""
    try:
        before = project_manager.get_current_project()
    except DataContextRequiredError:
        before = None
    context = gx.get_context(mode="ephemeral")
    context.enable_analytics(enable=False)
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    try:
        yield context
    finally:
        project_manager.set_project(before)


def strict(value: Any) -> Any:
    """The value as strict JSON: NaN and infinities, which Great Expectations may report, become text."""
    if isinstance(value, dict):
        return {str(key): strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.loads(json.dumps(value, default=str))


def _require_evaluated(name: str, result: dict[str, Any], error: type[AttrailError]) -> None:
    for each in result["results"]:
        raised = _exception(each.get("exception_info") or {})
        if raised:
            kind = each["expectation_config"]["type"]
            raise error(f"expectation {kind} of suite {name} could not be evaluated: {raised}")


def _exception(info: dict[str, Any]) -> str | None:
    """What an expectation raised; Great Expectations nests this one level deeper for metric errors."""
    for each in [info] if "raised_exception" in info else info.values():
        if each.get("raised_exception"):
            return str(each.get("exception_message"))
    return None


def _failure(found: dict[str, Any]) -> str:
    """A failed expectation in one sentence: ours say it themselves, of others kind and column are known."""
    config = found["expectation_config"]
    if "details" in found["result"]:
        return str(found["result"]["observed_value"])
    return f"{config['type']} of {config['kwargs'].get('column', 'the table')}"


def _check(found: dict[str, Any]) -> ExpectationResult:
    config = found["expectation_config"]
    return ExpectationResult(
        expected=config.get("description") or _expected(config),
        observed=_observed(found["result"]),
        success=found["success"],
        severity=config["severity"],
        name=str(config["meta"].get("name", "")),
    )


def _expected(config: dict[str, Any]) -> str:
    """An expectation's sentence, as Great Expectations writes it."""
    content = InlineRenderer(render_object=ExpectationConfiguration(**config)).get_rendered_content()[0].value
    known = {name: each["value"] for name, each in (content.params or {}).items()}
    return Template(content.template or "").safe_substitute(known)


def _observed(result: dict[str, Any]) -> str:
    """What was observed: in which rows it is otherwise, or the one value of the whole table."""
    if "unexpected_count" not in result:
        return str(result.get("observed_value", "nothing"))
    count, total, rows = result["unexpected_count"], result["element_count"], result.get("unexpected_index_list") or []
    if not count:
        missing = result.get("missing_count", 0)
        return f"true of {total - missing} rows, {missing} have no value" if missing else f"true of all {total} rows"
    named = [", ".join(f"{key} {value}" for key, value in reversed(row.items())) for row in rows[:SHOWN]]
    if count > SHOWN:
        named.append(f"and {count - SHOWN} more")
    return f"not true of {count} of {total} rows: {'; '.join(named)}"
