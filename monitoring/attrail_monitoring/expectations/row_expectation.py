"""What a rule over the measurements table is: a Great Expectations expectation that every row about a subject meets."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any, ClassVar, NamedTuple

import pandas as pd
from great_expectations.core.metric_domain_types import MetricDomainTypes
from great_expectations.execution_engine import PandasExecutionEngine
from great_expectations.expectations.expectation import BatchExpectation
from great_expectations.expectations.expectation_configuration import ExpectationConfiguration
from great_expectations.expectations.metrics.metric_provider import metric_value
from great_expectations.expectations.metrics.table_metric_provider import TableMetricProvider
from great_expectations.expectations.row_conditions import RowConditionType, deserialize_row_condition
from great_expectations.render import LegacyRendererType, RenderedStringTemplateContent
from great_expectations.render.renderer.renderer import renderer
from great_expectations.render.renderer_configuration import RendererConfiguration

from attrail_monitoring.expectations.validation import SHOWN
from attrail_monitoring.formatting import sentence, spoken
from attrail_monitoring.maps.strata import ALL

SUBJECT = ("slice", "explainer", "statistic", "stratum")
ALWAYS = ("slice", "explainer", "statistic", "primary")  # columns of every table

Row = Mapping[str, Any]


class Judged(NamedTuple):
    """One row held against a rule: ``observed`` is what the rule looked at, None when it is missing."""

    success: bool
    observed: float | str | None
    sentence: str


class Measurements(TableMetricProvider):
    """The measurements table as Great Expectations hands it to an expectation."""

    metric_name = "table.attrail_measurements"

    @metric_value(engine=PandasExecutionEngine)
    def _pandas(
        cls,  # noqa: N805 - Great Expectations makes it a class method
        execution_engine: PandasExecutionEngine,
        metric_domain_kwargs: dict[str, Any],
        metric_value_kwargs: dict[str, Any],
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any],
    ) -> pd.DataFrame:
        return execution_engine.get_compute_domain(metric_domain_kwargs, domain_type=MetricDomainTypes.TABLE)[0]


class MeasurementExpectation(BatchExpectation, ABC):
    """An expectation that every row about its subject must meet.

    ``slice``, ``explainer`` and ``statistic`` name the subject, None means every one in the table. ``stratum`` is one
    of a slice's, as "class 3"; None means the one that the audit judges, whose rows are primary. ``row_condition``
    narrows the table by any of its columns, as in Great Expectations' own expectations. A slice and explainer without
    a row, and a row without a usable number, fail and say so; a table without the columns of ``reads`` is an error.
    """

    slice: str | None = None
    explainer: str | None = None
    statistic: str | None = None
    stratum: str | None = None
    row_condition: RowConditionType = None

    reads: ClassVar[tuple[str, ...]] = ()
    metric_dependencies: ClassVar[tuple[str, ...]] = (Measurements.metric_name,)
    domain_keys: ClassVar[tuple[str, ...]] = ("row_condition",)
    success_keys: ClassVar[tuple[str, ...]] = SUBJECT
    args_keys: ClassVar[tuple[str, ...]] = SUBJECT

    @classmethod
    @abstractmethod
    def expected(cls, kwargs: Mapping[str, Any]) -> str:
        """What is expected, as a clause, of an expectation with these keyword arguments."""

    @abstractmethod
    def judge(self, row: Row) -> Judged:
        """One row held against this expectation."""

    def rows(self, table: pd.DataFrame) -> pd.DataFrame:
        """The rows of the table that this expectation is about."""
        wanted = {name: value for name in SUBJECT if (value := getattr(self, name)) is not None}
        lacking = [name for name in dict.fromkeys((*ALWAYS, *wanted, *self.reads)) if name not in table.columns]
        if lacking:
            raise ValueError(f"the table has no column {', '.join(lacking)}: give it attrail's measurements")
        if not table["primary"].isin([True, False]).all():
            raise ValueError("the column primary must hold true or false in every row")
        rows = table
        for name, value in wanted.items():
            rows = rows[rows[name].astype(str) == value]
        return rows if self.stratum is not None else _judged(rows)

    @property
    def configuration(self) -> ExpectationConfiguration:
        """The configuration with every threshold: Great Expectations leaves out those that are the default."""
        found = super().configuration
        values = {key: getattr(self, key) for key in self.success_keys}
        found.kwargs |= {key: value for key, value in values.items() if value is not None}
        return found

    def _validate(
        self,
        metrics: dict[str, Any],
        runtime_configuration: dict[str, Any] | None = None,
        execution_engine: Any = None,
    ) -> dict[str, Any]:
        table = metrics[Measurements.metric_name]
        rows = self.rows(table)
        records = [{str(name): value for name, value in row.items()} for row in rows.to_dict("records")]
        judged = [(row, self.judge(row)) for row in records]
        measured = [
            {
                **{name: str(row[name]) for name in SUBJECT if name in row},
                "observed": each.observed,
                "success": each.success,
            }
            for row, each in judged
        ]
        missing = list(self._missing(table, rows))
        failures = missing + [each.sentence for _, each in judged if not each.success]
        observed = failures or [each.sentence for _, each in sorted(judged, key=_closeness)]
        return {
            "success": not failures,
            "result": {
                "observed_value": listed(observed),
                "details": {"measurements": measured, "missing": missing},
            },
        }

    def _missing(self, table: pd.DataFrame, rows: pd.DataFrame) -> Iterator[str]:
        """What has no row: every slice goes with every explainer; which statistics there are, the rows say."""
        names = [
            [wanted] if (wanted := getattr(self, name)) else sorted(set(table[name].astype(str)))
            for name in SUBJECT[:2]
        ]
        found = set(zip(rows["slice"].astype(str), rows["explainer"].astype(str), strict=True))
        for pair in product(*(each or [None] for each in names)):
            if pair not in found:
                yield _unmeasured(dict(zip(SUBJECT, (*pair, self.statistic, self.stratum), strict=True)))

    @classmethod
    def _prescriptive_template(cls, renderer_configuration: RendererConfiguration[Any]) -> RendererConfiguration[Any]:
        renderer_configuration.template_str = cls._template(renderer_configuration.kwargs)
        return renderer_configuration

    @classmethod
    @renderer(renderer_type=LegacyRendererType.PRESCRIPTIVE)
    def _prescriptive_renderer(
        cls,
        configuration: ExpectationConfiguration | None = None,
        result: Any = None,
        runtime_configuration: dict[str, Any] | None = None,
    ) -> list[RenderedStringTemplateContent]:
        """The sentence for Data Docs, which hands over either a configuration or a result."""
        kwargs = (configuration or result.expectation_config).kwargs
        return [
            RenderedStringTemplateContent(
                content_block_type="string_template",
                string_template={"template": cls._template(kwargs), "params": {}},
            )
        ]

    @classmethod
    def _template(cls, kwargs: Mapping[str, Any]) -> str:
        """The sentence as a template without parameters: a dollar sign in a name stays one."""
        complete = {name: field.default for name, field in cls.__fields__.items()} | dict(kwargs)
        condition = complete["row_condition"]
        where = f", in the rows where {deserialize_row_condition(condition)!r}" if condition else ""
        return f"{sentence(cls.expected(complete))}{where}.".replace("$", "$$")


def subject(row: Row) -> str:
    """What a row or a rule is about: a statistic in a place, "every" for what is not named."""
    statistic = row.get("statistic")
    return f"{'the ' + spoken(statistic) if statistic else 'every statistic'} by {place(row)}"


def place(row: Row) -> str:
    """An explainer on a slice, "every" for what is not named, and the stratum when it is not all images."""
    explainer, name, stratum = row.get("explainer"), row.get("slice"), row.get("stratum")
    part = f" ({stratum})" if isinstance(stratum, str) and stratum != ALL else ""
    return f"{explainer or 'every explainer'} on {f'slice {name}' if name else 'every slice'}{part}"


def listed(clauses: Sequence[str]) -> str:
    """The first clauses as one sentence, each once, and how many more there are."""
    once = list(dict.fromkeys(clauses))
    more = [f"and {len(once) - SHOWN} more"] if len(once) > SHOWN else []
    return sentence("; ".join([*once[:SHOWN], *more]) + ".")


def number(row: Row, name: str) -> float | None:
    """A number of a row that is zero or more, None where there is no such number; text is a ValueError."""
    value = row.get(name)
    if value is None or pd.isna(value):
        return None
    found = float(value)
    return found if math.isfinite(found) and found >= 0 else None


def plain(value: Any) -> str:
    """A threshold as people write it; one that is filled in when the suite is run by its name."""
    if isinstance(value, Mapping):
        return f"(parameter {value['$PARAMETER']})"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _judged(rows: pd.DataFrame) -> pd.DataFrame:
    """Without the other strata of what has a primary row: supporting statistics have none."""
    keys = pd.Series(list(zip(*(rows[name] for name in ALWAYS[:3]), strict=True)), index=rows.index, dtype=object)
    primary = rows["primary"].astype(bool)
    return rows[primary | ~keys.isin(set(keys[primary]))]


def _unmeasured(about: Row) -> str:
    return f"{subject(about)} was not measured" if about["statistic"] else f"nothing was measured by {place(about)}"


def _closeness(judged: tuple[Row, Judged]) -> float:
    """A key that puts the largest distance first: the row that came nearest to failing."""
    observed = judged[1].observed
    return -observed if isinstance(observed, float) else 0.0
