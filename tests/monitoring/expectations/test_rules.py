"""Rules over the measurements table: what fails, in which words, and that missing evidence never passes."""

import json
import math
from pathlib import Path

import great_expectations as gx
import numpy as np
import pandas as pd
import pytest
from great_expectations.checkpoint import UpdateDataDocsAction
from great_expectations.data_context.data_context.context_factory import project_manager
from great_expectations.expectations.row_conditions import Column
from hypothesis import given
from hypothesis import strategies as st
from pydantic.v1 import ValidationError

from attrail_explainers.errors import ConfigError
from attrail_monitoring import Policy
from attrail_monitoring.expectations.row_expectation import Judged, MeasurementExpectation
from attrail_monitoring.expectations.rule_tables import read_suite, validate_measurements
from attrail_monitoring.expectations.rules import (
    ExpectAttributionDriftToStayBelowMargin,
    ExpectAttributionDriftToStayWithinFloor,
    ExpectEveryPrimaryVerdictToBe,
    ExpectUndefinedMapsToStayBelow,
)
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.judgement import judge_measurements

FLOOR = (0.28, 0.3, 0.32, 0.34, 0.36)

SNIPPET = """
import great_expectations as gx
import pandas as pd

from attrail_monitoring.expectations.rules import ExpectAttributionDriftToStayBelowMargin

rows = pd.read_csv("measurements.csv")
rule = ExpectAttributionDriftToStayBelowMargin(
    slice="validation", explainer="shap", statistic="coherent_shift", margin=0.1
)
context = gx.get_context()
table = context.data_sources.add_pandas("attrail").add_dataframe_asset("measurements")
whole = table.add_batch_definition_whole_dataframe("all")
suite = context.suites.add(gx.ExpectationSuite("gate", expectations=[rule]))
gate = context.validation_definitions.add(gx.ValidationDefinition(name="gate", data=whole, suite=suite))
result = context.checkpoints.add(gx.Checkpoint(name="gate", validation_definitions=[gate]))
result = result.run(batch_parameters={"dataframe": rows})
"""


class ExpectTrouble(MeasurementExpectation):
    """A broken expectation of a user's own."""

    @classmethod
    def expected(cls, kwargs):
        return "there is trouble"

    def judge(self, row):
        raise ZeroDivisionError("no luck")


class ExpectShortNames(MeasurementExpectation):
    """A sound expectation of a user's own."""

    longest: int

    success_keys = ("slice", "explainer", "statistic", "stratum", "longest")

    @classmethod
    def expected(cls, kwargs):
        return f"names have at most {kwargs['longest']} letters"

    def judge(self, row):
        return Judged(len(row["explainer"]) <= self.longest, row["explainer"], f"the name is {row['explainer']}")


@pytest.fixture
def table(measurement):
    """Makes the measurements table of the given measurements, as the files of an audit have it."""

    def make(*changes):
        facts = [{"explainer": "shap", "statistic": "coherent_shift", "floor": FLOOR} | each for each in changes]
        findings = judge_measurements(
            Policy(), [measurement(**{"slice": "validation", "ceiling": 1.0} | each) for each in facts]
        )
        return pd.DataFrame([finding.row() for finding in findings])

    return make


def only(validation):
    """The one check of a validation."""
    (check,) = validation.checks
    return check


def below(margin=0.1, **subject):
    return ExpectAttributionDriftToStayBelowMargin(**{"statistic": "coherent_shift", "margin": margin} | subject)


def test_drift_below_its_margin(table):
    check = only(validate_measurements(table({"value": 0.05}), [below(explainer="shap", slice="validation")]))
    assert check.success
    assert check.expected == (
        "The coherent shift by shap on slice validation stays below the margin 0.1 with its whole interval, "
        "over at least 16 images."
    )
    assert check.observed == "The coherent shift by shap on slice validation reaches 0.07."


def test_drift_beyond_its_margin_though_the_value_is_below(table):
    validation = validate_measurements(table({"value": 0.09}), [below()])
    assert not only(validation).success
    assert validation.failures == ("The coherent shift by shap on slice validation reaches 0.11, not below 0.1.",)


@given(upper=st.floats(0, 2), margin=st.floats(0.01, 1.9), undefined=st.integers(0, 40))
def test_images_without_a_map_count_at_their_worst(upper, margin, undefined):
    """As if each of them had moved to the ceiling, 2 for rank distances; so more of them never help."""
    rule = below(margin, statistic="rank_distance")
    row = {"slice": "s", "explainer": "e", "statistic": "rank_distance", "upper": upper, "n": 40}
    judged = rule.judge(row | {"undefined": undefined})
    worst = np.mean([upper] * 40 + [2.0] * undefined)
    assert judged.success == (worst < margin) or math.isclose(worst, margin)
    if judged.success:
        assert rule.judge(row | {"undefined": max(undefined - 1, 0)}).success


@given(
    uppers=st.tuples(st.floats(0, 2), st.floats(0, 2)),
    margins=st.tuples(st.floats(0.01, 1.9), st.floats(0.01, 1.9)),
    floor=st.floats(0.01, 1.9),
)
def test_rules_are_monotone(uppers, margins, floor):
    """A shorter move or a wider limit never fails where a longer or a narrower one passed."""
    rows = [
        {"slice": "s", "explainer": "e", "statistic": "rank_distance", "upper": upper, "n": 40, "undefined": 1}
        | {"floor": floor, "floor_tier": "B"}
        for upper in sorted(uppers)
    ]
    low, high = (below(margin, statistic="rank_distance") for margin in sorted(margins))
    for rule in (low, high, ExpectAttributionDriftToStayWithinFloor()):
        assert rule.judge(rows[0]).success >= rule.judge(rows[1]).success
    assert all(high.judge(row).success >= low.judge(row).success for row in rows)


@given(value=st.floats(0, 1), width=st.floats(0, 0.5), margin=st.floats(0.01, 0.99), undefined=st.integers(0, 5))
def test_no_rule_passes_what_the_policy_flags(value, width, margin, undefined):
    row = {"slice": "s", "explainer": "e", "statistic": "coherent_shift", "n": 100, "undefined": undefined}
    row |= {"upper": min(value + width, 1.0), "lower": max(value - width, 0.0)}
    assert not (row["lower"] > margin and below(margin).judge(row).success)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"upper": math.nan}, "has no interval"),
        ({"upper": None}, "has no interval"),
        ({"upper": math.inf}, "has no interval"),
        ({"upper": -0.1}, "has no interval"),
        ({"n": None}, "has no interval"),
        ({"n": 15}, "is known from 15 images only"),
        ({"unfit": True}, "the explainer is unfit"),
        ({"unfit": None}, "the explainer is unfit"),
        ({"undefined": math.nan}, "has no interval"),
        ({"statistic": "made_up", "undefined": 1}, "is unknown for 1 images without a map"),
        ({"floor": None}, "has no noise floor"),
        ({"floor_tier": "0"}, "has a noise floor of tier 0, C or better is needed"),
        ({"floor_tier": "D"}, "has a noise floor of tier D, C or better is needed"),
        ({"floor": 1.0}, "cannot exceed 1: 1 is no limit"),
    ],
)
def test_missing_evidence_never_passes(table, change, words):
    """The same row without the change passes."""
    rows = table({"value": 0.05})
    rule = ExpectAttributionDriftToStayWithinFloor()
    assert only(validate_measurements(rows, [rule])).success
    for name, value in change.items():
        rows[name] = pd.Series([value], dtype=object)
    check = only(validate_measurements(rows, [rule]))
    assert not check.success
    assert words in check.observed


def test_a_margin_as_wide_as_the_statistic_is_none(table):
    check = only(validate_measurements(table({"value": 0.05}), [below(1.0)]))
    assert not check.success
    assert check.observed == "The coherent shift by shap on slice validation cannot exceed 1: 1 is no limit."


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (below(slice="elsewhere"), "The coherent shift by shap on slice elsewhere was not measured."),
        (below(explainer="lime"), "The coherent shift by lime on slice validation was not measured."),
        (below(statistic="coherent"), "The coherent by shap on slice validation was not measured."),
        (below(stratum="class 3"), "The coherent shift by shap on slice validation (class 3) was not measured."),
        (ExpectUndefinedMapsToStayBelow(slice="x", share=0.5), "Nothing was measured by shap on slice x."),
        (ExpectEveryPrimaryVerdictToBe(slice="x", verdict="PASS"), "Nothing was measured by shap on slice x."),
    ],
)
def test_what_was_not_measured_fails(table, rule, words):
    check = only(validate_measurements(table({"value": 0.05}), [rule]))
    assert not check.success
    assert check.observed == words


def test_every_explainer_is_needed_on_every_slice(table):
    rows = table({"value": 0.05}, {"value": 0.05, "explainer": "lime"}, {"value": 0.05, "slice": "night"})
    check = only(validate_measurements(rows, [below()]))
    assert not check.success
    assert check.observed == "The coherent shift by lime on slice night was not measured."
    assert only(validate_measurements(rows, [below(explainer="shap")])).success


def test_an_empty_table_fails(table):
    check = only(validate_measurements(table({"value": 0.05})[:0], [ExpectEveryPrimaryVerdictToBe(verdict="PASS")]))
    assert not check.success
    assert check.observed == "Nothing was measured by every explainer on every slice."


def test_the_stratum_that_the_audit_judges_is_meant_unless_another_is_named(table):
    rows = table(
        {"value": 0.05, "stratum": "both right"},
        {"value": 0.5, "stratum": "class 3", "primary": False},
        {"value": 0.05, "statistic": "top_distance", "primary": False},
    )
    assert only(validate_measurements(rows, [below()])).success
    other = only(validate_measurements(rows, [below(stratum="class 3")]))
    assert not other.success
    assert other.observed == "The coherent shift by shap on slice validation (class 3) reaches 0.52, not below 0.1."
    supporting = only(validate_measurements(rows, [below(statistic="top_distance")]))
    assert supporting.observed == "The top distance by shap on slice validation reaches 0.07."


def test_a_row_condition_narrows_the_table(table):
    rows = table({"value": 0.05}, {"value": 0.5, "explainer": "lime"})
    check = only(validate_measurements(rows, [below(row_condition=Column("explainer") == "shap")]))
    assert check.success
    assert check.expected.endswith("over at least 16 images, in the rows where explainer == shap.")


def test_the_floor_in_the_row_is_the_limit(table):
    rule = ExpectAttributionDriftToStayWithinFloor(statistic="coherent_shift")
    rows = table({"value": 0.3}, {"value": 0.9, "explainer": "lime"})
    assert rows["upper"][0] < rows["floor"][0] < rows["upper"][1]
    check = only(validate_measurements(rows, [rule]))
    assert (
        check.observed
        == f"The coherent shift by lime on slice validation reaches 0.92, not below {rows['floor'][1]:.4g}."
    )
    tier = ExpectAttributionDriftToStayWithinFloor(statistic="coherent_shift", explainer="shap", weakest_tier="A")
    strong = only(validate_measurements(rows, [tier]))
    assert strong.observed.endswith("has a noise floor of tier B, A or better is needed.")


@pytest.mark.parametrize(("undefined", "success"), [(0, True), (4, True), (5, False)])
def test_undefined_maps_stay_below_a_share(table, undefined, success):
    rows = table({"value": 0.05, "n": 100 - undefined, "undefined": undefined})
    check = only(validate_measurements(rows, [ExpectUndefinedMapsToStayBelow(share=0.05)]))
    assert check.success is success
    assert check.observed == f"{undefined} of 100 images lack a map by shap on slice validation."


def test_a_share_of_no_images_fails(table):
    rows = table({"value": 0.05}).assign(n=0, undefined=0)
    assert not only(validate_measurements(rows, [ExpectUndefinedMapsToStayBelow(share=1)])).success


def test_every_primary_verdict(table):
    rows = table(
        {"value": 0.05}, {"value": 0.9, "explainer": "lime"}, {"value": 0.9, "explainer": "lime", "primary": False}
    )
    assert list(rows["verdict"][:2]) == ["PASS", "DRIFT"]
    strict, either, one = (
        only(validate_measurements(rows, [rule]))
        for rule in (
            ExpectEveryPrimaryVerdictToBe(verdict=Verdict.PASS),
            ExpectEveryPrimaryVerdictToBe(verdict=["PASS", "DRIFT"]),
            ExpectEveryPrimaryVerdictToBe(verdict="PASS", explainer="shap"),
        )
    )
    assert not strict.success
    assert strict.expected == "The verdict on every primary statistic by every explainer on every slice is PASS."
    assert strict.observed.startswith("The coherent shift by lime on slice validation is DRIFT (")
    assert either.success
    assert one.success


def test_supporting_verdicts_alone_are_no_evidence(table):
    rows = table({"value": 0.05, "primary": False})
    assert not only(validate_measurements(rows, [ExpectEveryPrimaryVerdictToBe(verdict=rows["verdict"][0])])).success


@pytest.mark.parametrize("value", [True, "0.1", math.nan, math.inf, 0, -0.1, None])
def test_a_threshold_that_means_nothing_is_refused(value):
    with pytest.raises(ValidationError, match=r"expected a number above 0|none is not an allowed value"):
        below(value)
    with pytest.raises(ValidationError, match=r"expected a number above 0|none is not an allowed value"):
        ExpectUndefinedMapsToStayBelow(share=value)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (ExpectTrouble(), "expect_trouble of suite rules could not be evaluated: no luck"),
        (below(fewest_images=1, margin={"$PARAMETER": "later"}), "later"),
    ],
)
def test_an_exception_inside_a_rule_is_an_error(table, rule, words):
    """Great Expectations itself reports it as a failed expectation."""
    with pytest.raises(ConfigError, match=words):
        validate_measurements(table({"value": 0.05}), [rule])


@pytest.mark.parametrize("column", ["slice", "primary", "upper", "n", "undefined"])
def test_a_table_that_lacks_a_column_is_an_error(table, column):
    with pytest.raises(ConfigError, match=f"the table has no column {column}"):
        validate_measurements(table({"value": 0.05}).drop(columns=column), [below()])


def test_text_in_place_of_numbers_is_an_error(table):
    with pytest.raises(ConfigError, match="could not convert string to float: 'far'"):
        validate_measurements(table({"value": 0.05}).assign(upper="far"), [below()])
    with pytest.raises(ConfigError, match="primary must hold true or false"):
        validate_measurements(table({"value": 0.05}).assign(primary="yes"), [below()])


def test_results_are_strict_json_whatever_the_table_holds(table):
    rows = table({"value": 0.05}, {"value": math.nan, "width": math.nan, "n": 0, "explainer": "lime"})
    rows["p_value"] = [math.inf, -math.inf]
    rules = [below(), gx.expectations.ExpectColumnMaxToBeBetween(column="p_value", max_value=1)]
    validation = validate_measurements(rows, rules)
    assert json.loads(json.dumps(validation.result, allow_nan=False)) == validation.result
    assert [check.success for check in validation.checks] == [False, False]
    assert validation.checks[1].observed == "inf"
    details = validation.result["results"][0]["result"]["details"]["measurements"]
    assert [each["observed"] for each in details] == [pytest.approx(0.07), None]


def test_other_expectations_are_said_in_words_too(table):
    rows = table(*({"value": value, "explainer": "lime"} for value in (0.05, 0.5, 0.5)))
    rows["n"] = [100, 100, math.nan]
    rules = [
        gx.expectations.ExpectColumnValuesToBeBetween(column="value", max_value=0.1),
        gx.expectations.ExpectColumnValuesToBeInSet(column="n", value_set=[100]),
        gx.expectations.ExpectTableRowCountToEqual(value=3, severity="info", meta={"name": "count"}),
    ]
    between, in_set, count = validate_measurements(rows, rules).checks
    assert between.expected == "value values must be less than or equal to 0.1."
    assert between.observed.startswith(
        "not true of 2 of 3 rows: stratum all, statistic coherent_shift, explainer lime,"
    )
    assert in_set.observed == "true of 2 rows, 1 have no value"
    assert (count.expected, count.observed) == ("Must have exactly 3 rows.", "3")
    assert (count.severity, count.name) == ("info", "count")


def test_a_rule_of_a_users_own(table):
    rows = table({"value": 0.05}, {"value": 0.05, "explainer": "integrated_gradients"})
    check = only(validate_measurements(rows, [ExpectShortNames(longest=10)]))
    assert check.expected == "Names have at most 10 letters."
    assert check.observed == "The name is integrated_gradients."


def test_a_suite_goes_through_json(table):
    rows = table({"value": 0.05}, {"value": 0.9, "explainer": "lime"})
    rules = [
        below(explainer="shap"),
        below(explainer="lime", severity="warning", meta={"name": "QM-7"}),
        ExpectAttributionDriftToStayWithinFloor(weakest_tier="A"),
        ExpectUndefinedMapsToStayBelow(share=0.05, row_condition=Column("n") > 3),
        ExpectEveryPrimaryVerdictToBe(verdict=Verdict.PASS),
    ]
    first = validate_measurements(rows, rules)
    suite = read_suite(json.loads(json.dumps(first.suite, allow_nan=False)))
    again = validate_measurements(rows, suite.expectations)
    assert again.checks == first.checks
    assert again.suite == first.suite
    assert [check.success for check in first.checks] == [True, False, False, True, False]
    assert first.checks[1].name == "QM-7"
    kwargs = [each["kwargs"] for each in first.suite["expectations"]]
    assert [each.get("fewest_images") for each in kwargs] == [16, 16, 16, None, None], "defaults are on record too"


def test_a_suite_that_cannot_be_read_whole_is_refused(table):
    document = validate_measurements(table({"value": 0.05}), [below(), ExpectUndefinedMapsToStayBelow(share=0.1)]).suite
    unknown = json.loads(json.dumps(document).replace("expect_undefined_maps", "expect_unheard_maps"))
    assert len(gx.ExpectationSuite(**unknown).expectations) == 1, "Great Expectations leaves it out"
    with pytest.raises(ConfigError, match="expect_unheard_maps_to_stay_below is not known"):
        read_suite(unknown)
    broken = json.loads(json.dumps(document).replace('"margin": 0.1', '"margin": -1'))
    with pytest.raises(ConfigError, match=r"suite 'rules' cannot be read: .*expected a number above 0"):
        read_suite(broken)


def test_a_users_snippet_works(table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table({"value": 0.05}, {"value": 0.9, "explainer": "lime"}).to_csv("measurements.csv", index=False)
    names = {}
    exec(compile(SNIPPET, "README.md", "exec"), names)
    assert names["result"].success
    (found,) = names["result"].run_results.values()
    assert len(found.results) == 1


def test_rules_live_in_a_users_own_project(table, tmp_path):
    """A file context: stored, run by a checkpoint with a parameter, shown in Data Docs, read again."""
    rows = table({"value": 0.05}, {"value": 0.9, "explainer": "lime"})
    context = gx.get_context(mode="file", project_root_dir=tmp_path)
    rules = [below(explainer="lime", slice="validation", margin={"$PARAMETER": "margin"}), below(explainer="shap")]
    suite = context.suites.add(gx.ExpectationSuite(name="gate", expectations=rules))
    assert only(validate_measurements(rows, suite.expectations[1:])).success
    assert project_manager.get_current_project() is context, "ours did not take its place"
    asset = context.data_sources.add_pandas("attrail").add_dataframe_asset("measurements")
    whole = asset.add_batch_definition_whole_dataframe("all")
    definition = context.validation_definitions.add(gx.ValidationDefinition(name="gate", data=whole, suite=suite))
    checkpoint = context.checkpoints.add(
        gx.Checkpoint(name="gate", validation_definitions=[definition], actions=[UpdateDataDocsAction(name="docs")])
    )
    for margin, expected in ((0.1, [False, True]), (0.95, [True, True])):
        run = checkpoint.run(batch_parameters={"dataframe": rows}, expectation_parameters={"margin": margin})
        (found,) = run.run_results.values()
        assert [each.success for each in found.results] == expected
    again = gx.get_context(mode="file", project_root_dir=tmp_path).suites.get("gate")
    assert again == suite
    assert len(again.expectations) == 2
    pages = " ".join("".join(page.read_text() for page in Path(tmp_path).rglob("*.html")).split())
    assert "The coherent shift by shap on every slice stays below the margin 0.1 with its whole interval" in pages
    assert "stays below the margin (parameter margin)" in pages
    assert "The coherent shift by lime on slice validation reaches 0.92, not below 0.1." in pages


def test_a_dollar_sign_in_a_name_stays_one(table):
    check = only(validate_measurements(table({"value": 0.05, "slice": "$$name"}), [below(slice="$$name")]))
    assert check.success
    assert "on slice $$name stays" in check.expected


def test_long_answers_are_cut(table):
    rows = table(*({"value": 0.05 * each, "explainer": f"e{each}"} for each in range(3, 9)))
    check = only(validate_measurements(rows, [below()]))
    assert check.observed.count("not below 0.1") == 3
    assert check.observed.endswith("; and 3 more.")
