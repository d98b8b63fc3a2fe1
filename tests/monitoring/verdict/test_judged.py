"""The rows that people read: one for everything that a verdict can rest on, and which of them it rests on."""

from dataclasses import replace

import numpy as np
import pytest

from attrail_monitoring.floor.decision_floors import DecisionFloor
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.maps.strata import class_name, is_class
from attrail_monitoring.verdict.agreement import Agreement
from attrail_monitoring.verdict.combination import combine
from attrail_monitoring.verdict.decision_measurement import DecisionMeasurement
from attrail_monitoring.verdict.findings import DecisionFinding, DriftReport, Finding, Verdict
from attrail_monitoring.verdict.judged import JudgedRow, judged_rows
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.moved_images import MovedImages

FLOOR = NoiseFloor((0.1, 0.11, 0.12, 0.1))
LEVEL = 0.02  # of what explainers see together


def finding(explainer, verdict, stratum="all", bound=0.2, margin=0.05, floor=FLOOR, **facts):
    localised = is_class(stratum)
    measured = Measurement(
        "night",
        explainer,
        "rank_distance",
        0.3,
        0.25,
        0.35,
        2.0,
        100,
        0,
        not localised,
        stratum=stratum,
        localised=localised,
        floor=floor,
        worst=0.35,
    )
    limit = max(number for number in (bound, margin) if number is not None)
    known = {"strict": False, "unfit": False} | facts
    return Finding(measured, bound, margin, limit, 0.01, 0.01, Verdict[verdict], reason="because", **known)


def agreement(flagged=True, hides=False):
    judged = (0.001, 0.002, 0.05, flagged, hides, LEVEL)
    return Agreement("night", "rank_distance", ("a", "b"), 0.4, 0.32, FLOOR, *judged)


def images(flagged=True):
    return MovedImages("night", ("a", "b"), 200, ("x.png", "y.png"), 0.05, 1e-4, 2e-4, 0.01, flagged)


def rows(findings, agreements=(), moved=(), names=()):
    verdict, reason = combine(findings, agreements, moved, names)
    report = DriftReport(verdict, reason, tuple(findings), "sha256:0", 0.01, 2, tuple(agreements), tuple(moved))
    return verdict, judged_rows(report, names)


def test_what_explainers_see_together_has_a_row_that_decides():
    """Three rows that pass and one that is open stand above a DRIFT: the row that made it one is there."""
    verdict, found = rows([finding("a", "PASS"), finding("b", "INCONCLUSIVE")], [agreement()])
    assert verdict is Verdict.DRIFT
    bound = FLOOR.bound(LEVEL)
    assert found[-1] == JudgedRow(
        "night", "together", "rank_distance", "0.400 (0.320 up)", f"{bound:.3f} floor", "DRIFT", True
    )
    assert [row.decides for row in found] == [False, False, True]


def test_of_flagged_classes_the_furthest_comes_first():
    near, far = (finding("a", "DRIFT", stratum=class_name(place)) for place in (0, 1))
    near = replace(near, measurement=replace(near.measurement, value=0.26))
    _, found = rows([finding("a", "PASS"), near, far])
    assert [(row.what, row.of_class) for row in found] == [
        ("rank_distance", False),
        ("rank_distance of class 1", True),
        ("rank_distance of class 0", True),
    ]


def test_single_images_that_moved_have_a_row_that_decides():
    verdict, found = rows([finding("a", "PASS"), finding("b", "PASS")], [agreement(flagged=False)], [images()])
    assert verdict is Verdict.DRIFT
    assert [row.decides for row in found] == [False, False, False, True]
    last = found[-1]
    assert (last.explainer, last.what, last.distance, last.verdict) == (
        "together",
        "single images",
        "2 of 200 moved",
        "DRIFT",
    )
    assert last.limit.endswith("/ 0.01")


def test_of_no_image_nothing_is_said():
    """0 of 0 that moved are no PASS."""
    _, found = rows([finding("a", "INCONCLUSIVE")], moved=[replace(images(flagged=False), images=0, samples=())])
    assert (found[-1].distance, found[-1].verdict, found[-1].decides) == ("0 of 0 moved", "INCONCLUSIVE", True)


def test_a_flagged_class_has_a_row_with_its_name_and_others_have_none():
    flagged = [finding(each, "DRIFT", stratum="class 3") for each in "ab"]
    calm = finding("a", "PASS", stratum="class 4")
    verdict, found = rows([finding("a", "PASS"), finding("b", "PASS"), *flagged, calm], names=("n", "o", "p", "cat"))
    assert verdict is Verdict.DRIFT
    assert [row.what for row in found] == ["rank_distance"] * 2 + ["rank_distance of class 3 (cat)"] * 2
    assert [row.decides for row in found] == [False, False, True, True]


@pytest.mark.parametrize(
    ("first", "second", "decides"),
    [
        (("DRIFT", False), ("DRIFT", False), [True, True]),
        (("DRIFT", True), ("PASS", False), [True, False]),
        (("DRIFT", False), ("PASS", False), [True, False]),  # a lone flag stands between the audit and PASS
        (("PASS", False), ("INCONCLUSIVE", False), [False, True]),
        (("PASS", False), ("PASS", False), [False, False]),  # all of them are why it is PASS
    ],
)
def test_the_rows_that_decide(first, second, decides):
    made = [finding(name, word, strict=strict) for name, (word, strict) in zip("ab", (first, second), strict=True)]
    assert [row.decides for row in rows(made)[1]] == decides


def test_an_explainer_that_is_left_out_says_so_and_decides_nothing():
    _, found = rows([finding("a", "INCONCLUSIVE", unfit=True), finding("b", "DRIFT")])
    assert [(row.verdict, row.decides) for row in found] == [("left out", False), ("DRIFT", True)]


@pytest.mark.parametrize(
    ("bound", "margin", "limit"),
    [
        (0.2, 0.05, "0.200 floor"),
        (0.02, 0.05, "0.050 margin"),
        (None, 0.05, "0.050 margin"),
        (0.2, None, "0.200 floor"),
    ],
)
def test_the_limit_says_what_it_comes_from(bound, margin, limit):
    assert rows([finding("a", "PASS", bound=bound, margin=margin)])[1][0].limit == limit


def test_no_limit_at_all():
    bare = replace(finding("a", "INCONCLUSIVE"), bound=None, margin=None, limit=None)
    assert rows([bare])[1][0].limit == "none"


def test_decisions_come_first_and_only_flagged_classes_of_them():
    floor = DecisionFloor((0.1, 0.11, 0.12, 0.1), ("m",) * 4)

    def decided(verdict, stratum="all"):
        measured = DecisionMeasurement(
            "night", "accuracy_loss", stratum, 0.3, 0.2, 0.4, 0.7, 0.4, np.zeros((9, 1)), floor
        )
        return DecisionFinding(measured, 0.2, 0.02, 0.2, 0.01, 0.01, Verdict[verdict], "because")

    left_out = replace(decided("INCONCLUSIVE"), unfit=True)
    decisions = (decided("PASS", "class 0"), decided("DRIFT", "class 1"), decided("DRIFT"), left_out)
    found = judged_rows(
        DriftReport(Verdict.DRIFT, "", (finding("a", "PASS"),), "sha256:0", 0.01, 1, decisions=decisions),
        ("dog", "cat"),
    )
    assert [(row.explainer, row.what, row.decides) for row in found] == [
        ("decisions", "accuracy_loss", True),
        ("decisions", "accuracy_loss", False),
        ("decisions", "accuracy_loss of class 1 (cat)", True),
        ("a", "rank_distance", False),
    ]
    assert found[1].verdict == "left out"
    assert (found[0].distance, found[0].limit) == ("0.300 (0.200 to 0.400)", "0.200 floor")
