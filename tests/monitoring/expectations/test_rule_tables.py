"""``[[rule]]`` tables: what they make, and which key is wrong."""

import tomllib
from dataclasses import replace

import pandas as pd
import pytest

from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_monitoring.expectations.rule_tables import rules_of, validate_measurements, with_rules
from attrail_monitoring.expectations.rules import (
    ExpectAttributionDriftToStayBelowMargin,
    ExpectEveryPrimaryVerdictToBe,
    ExpectUndefinedMapsToStayBelow,
    rule_kinds,
)
from attrail_monitoring.expectations.validation import ExpectationResult, Validation
from attrail_monitoring.verdict.findings import DriftReport, Verdict

BELOW = {"expect": "attribution_drift_to_stay_below_margin", "statistic": "coherent_shift", "margin": 0.1}
KNOWN = {"slice": ["validation"], "explainer": ("shap", "lime"), "statistic": {"coherent_shift": 1}}

DOCUMENT = """
[[rule]]
expect = "attribution_drift_to_stay_below_margin"
slice = "validation"
explainer = "shap"
statistic = "coherent_shift"
margin = 0.1

[[rule]]
expect = "undefined_maps_to_stay_below"
name = "QM-7"
severity = "warning"
share = 0.05

[[rule]]
expect = "every_primary_verdict_to_be"
verdict = ["PASS", "INCONCLUSIVE"]
"""


def test_tables_of_a_configuration_file_become_rules():
    drift, undefined, verdict = rules_of(tomllib.loads(DOCUMENT)["rule"], KNOWN)
    assert isinstance(drift, ExpectAttributionDriftToStayBelowMargin)
    assert (drift.slice, drift.explainer, drift.statistic, drift.margin) == (
        "validation",
        "shap",
        "coherent_shift",
        0.1,
    )
    assert isinstance(undefined, ExpectUndefinedMapsToStayBelow)
    assert (undefined.severity.value, undefined.meta, undefined.share) == ("warning", {"name": "QM-7"}, 0.05)
    assert isinstance(verdict, ExpectEveryPrimaryVerdictToBe)
    assert verdict.verdict == ["PASS", "INCONCLUSIVE"]


def test_our_rules_are_known_by_their_names():
    assert {
        "attribution_drift_to_stay_below_margin",
        "attribution_drift_to_stay_within_floor",
        "every_primary_verdict_to_be",
        "undefined_maps_to_stay_below",
    } <= set(rule_kinds())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expect": None}, "rule 2: key 'expect' is missing: known are attribution_drift_to_stay_below_margin, "),
        ({"margin": None}, "rule 2 .*below_margin.*: key 'margin' is missing"),
        ({"statistic": None}, "rule 2 .*: key 'statistic' is missing"),
        ({"margin": "wide"}, "rule 2 .*: key 'margin': expected a number above 0, got 'wide'"),
        ({"margin": True}, "rule 2 .*: key 'margin': expected a number above 0, got True"),
        ({"margin": float("nan")}, "rule 2 .*: key 'margin': expected a number above 0, got nan"),
        ({"margin": {"$PARAMETER": "m"}}, "rule 2 .*: key 'margin' must be a plain value"),
        ({"fewest_images": 0}, "rule 2 .*: key 'fewest_images': ensure this value is greater than 0, got 0"),
        ({"severity": "fatal"}, "rule 2 .*: key 'severity': .*, got 'fatal'"),
        ({"slice": ["validation"]}, "rule 2 .*: key 'slice': str type expected"),
    ],
)
def test_a_wrong_key_is_named(change, words):
    table = {key: value for key, value in (BELOW | change).items() if value is not None}
    with pytest.raises(ConfigError, match=words):
        rules_of([BELOW, table])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"expect": "peace"}, "unknown expectation in rule 1 'peace': known are attribution_drift"),
        ({"expect": ["peace"]}, "unknown expectation in rule 1"),
        ({"margn": 0.1}, r"unknown key in rule 1 \(.*\) 'margn': known are .*margin"),
        ({"row_condition": "n > 1"}, "unknown key in rule 1 .* 'row_condition'"),
        ({"slice": "validatoin"}, "unknown slice in rule 1 .* 'validatoin': known are validation"),
        ({"explainer": "gradcam"}, "unknown explainer in rule 1 .* 'gradcam': known are lime, shap"),
        ({"slice": ["validation"]}, "unknown slice in rule 1"),
    ],
)
def test_an_unknown_name_lists_the_known(change, words):
    with pytest.raises(UnknownNameError, match=words):
        rules_of([BELOW | change], KNOWN)


def test_no_rules_are_no_evidence():
    with pytest.raises(ConfigError, match="suite rules has no rule"):
        validate_measurements(pd.DataFrame({"slice": ["validation"]}), [])


def held(*checks):
    """What Great Expectations found: each check's outcome and severity."""
    found = tuple(
        ExpectationResult("expected", f"observed {number}", success, severity, name="")
        for number, (success, severity) in enumerate(checks, start=1)
    )
    return Validation("rules", {}, (), {}, found)


REPORT = DriftReport(Verdict.PASS, "all stayed", (), "sha256:0", 0.05, 1)


def test_a_rule_that_is_not_met_is_no_pass_and_says_which():
    report = with_rules(REPORT, held((True, "critical"), (False, "critical"), (False, "critical")))
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.reason == "a [[rule]] was not met: observed 2, and 1 more; without rules it would be PASS: all stayed"
    assert report.next_step.startswith("meet the rule, or correct it")


@pytest.mark.parametrize("severity", ["warning", "info"])
def test_a_rule_that_only_warns_changes_no_verdict(severity):
    assert with_rules(REPORT, held((False, severity))) == REPORT


@pytest.mark.parametrize("verdict", [Verdict.DRIFT, Verdict.INCONCLUSIVE])
def test_a_rule_makes_no_verdict_milder(verdict):
    """DRIFT stays DRIFT, and an open verdict keeps its own reason; the rule is shown beside it."""
    report = replace(REPORT, verdict=verdict)
    assert with_rules(report, held((False, "critical"))) == report
