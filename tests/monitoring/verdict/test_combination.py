"""Combining findings: who decides, who asks for review, and that surrogates never decide."""

from dataclasses import replace
from math import nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_monitoring.floor.decision_floors import DecisionFloor
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.maps.strata import is_class
from attrail_monitoring.verdict.agreement import Agreement
from attrail_monitoring.verdict.combination import combine
from attrail_monitoring.verdict.decision_measurement import DecisionMeasurement
from attrail_monitoring.verdict.findings import DecisionFinding, Finding, Verdict
from attrail_monitoring.verdict.measurement import Measurement

SEVERITY = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.DRIFT: 2}
FLOOR = (0.1, 0.11, 0.12, 0.1)


def finding(explainer, verdict, slice_name="all", statistic="rank_distance", stratum="all", source="retrains", **facts):
    """A finding, primary on the whole slice and localised on a class."""
    known = {"primary": stratum == "all"} | facts
    place = {"stratum": stratum, "localised": is_class(stratum), "floor": NoiseFloor(FLOOR, source=source)}
    value = known.get("value", 0.1)
    measured = Measurement(
        slice_name, explainer, statistic, value, 0.1, 0.1, 2.0, 100, 5, known["primary"], **place, lost=3, worst=0.1
    )
    flags = {name: known.get(name, False) for name in ("strict", "unfit", "hides")}
    return Finding(measured, None, None, None, None, None, Verdict[verdict], reason="because", **flags)


def test_all_pass_is_pass():
    verdict, reason = combine([finding("a", "PASS"), finding("b", "PASS")])
    assert verdict is Verdict.PASS
    assert reason == "every primary statistic of every explainer stayed within its limit on every slice"


def test_two_explainers_are_drift():
    verdict, reason = combine([finding("a", "DRIFT"), finding("b", "DRIFT"), finding("c", "PASS")])
    assert verdict is Verdict.DRIFT
    assert "slice all, a and b found" in reason


def test_two_explainers_on_different_slices_are_not():
    found = [
        finding("a", "DRIFT", "x"),
        finding("b", "PASS", "x"),
        finding("a", "PASS", "y"),
        finding("b", "DRIFT", "y"),
    ]
    assert combine(found)[0] is Verdict.INCONCLUSIVE


def test_two_statistics_of_one_explainer_are_a_lone_flag():
    found = [
        finding("a", "DRIFT"),
        finding("a", "DRIFT", statistic="coherent_shift"),
        finding("b", "PASS"),
        finding("b", "PASS", statistic="coherent_shift"),
    ]
    verdict, reason = combine(found)
    assert verdict is Verdict.INCONCLUSIVE
    assert "a alone flagged rank_distance on slice all: method-specific" in reason


def test_one_explainer_at_the_strict_level_is_drift():
    verdict, reason = combine([finding("a", "DRIFT", strict=True), finding("b", "PASS")])
    assert verdict is Verdict.DRIFT
    assert "a alone flagged a move, at the strict level" in reason


def test_the_only_explainer_is_drift():
    assert combine([finding("a", "DRIFT")])[0] is Verdict.DRIFT
    assert combine([finding("a", "DRIFT"), finding("a", "PASS", "other")])[0] is Verdict.DRIFT


def test_one_open_question_is_inconclusive():
    verdict, reason = combine([finding("a", "PASS"), finding("b", "INCONCLUSIVE", "night")])
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == "rank_distance of b on slice night: because"


def test_descriptive_statistics_never_decide():
    others = [finding("a", "DRIFT", strict=True, primary=False), finding("b", "DRIFT", primary=False)]
    assert combine([finding("a", "PASS"), *others])[0] is Verdict.PASS
    assert combine(others) == (Verdict.INCONCLUSIVE, "no primary statistic was measured")
    assert combine([])[0] is Verdict.INCONCLUSIVE


def test_what_the_both_wrong_and_flipped_images_did_never_decides():
    others = [finding(name, "DRIFT", stratum=stratum) for name in "ab" for stratum in ("flipped", "both wrong")]
    assert combine([finding("a", "PASS"), finding("b", "PASS"), *others])[0] is Verdict.PASS


def test_one_class_flagged_by_two_explainers_is_drift():
    passed = [finding("a", "PASS"), finding("b", "PASS")]
    same = [finding(name, "DRIFT", stratum="class 3") for name in "ab"]
    verdict, reason = combine([*passed, *same])
    assert verdict is Verdict.DRIFT
    assert reason == "on class 3 of slice all, a and b found evidence that moved"
    other = [finding("a", "DRIFT", stratum="class 3"), finding("b", "DRIFT", stratum="class 4")]
    verdict, reason = combine([*passed, *other])
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == "a alone flagged class 3 on slice all: method-specific, asks for review"


def test_one_class_flagged_by_the_only_explainer_is_drift():
    assert combine([finding("a", "PASS"), finding("a", "DRIFT", stratum="class 3")])[0] is Verdict.DRIFT


def test_a_class_that_lost_maps_could_hide_is_no_pass():
    passed = [finding("a", "PASS"), finding("b", "PASS")]
    assert combine([*passed, finding("a", "PASS", stratum="class 3")])[0] is Verdict.PASS
    verdict, reason = combine([*passed, finding("a", "INCONCLUSIVE", stratum="class 3", hides=True)])
    assert verdict is Verdict.INCONCLUSIVE
    told = "the maps that the candidate lost could hide a move"
    assert reason == f"rank_distance of a on class 3 of slice all: {told}"


def agreement(flagged=False, hides=False, source="retrains"):
    floor = NoiseFloor(FLOOR, source=source)
    return Agreement("all", "rank_distance", ("a", "b"), 0.2, 0.2, floor, 0.001, 0.002, 0.05, flagged, hides)


def test_what_all_see_together_is_drift():
    found = [finding("a", "PASS"), finding("b", "PASS")]
    assert combine(found, [agreement()])[0] is Verdict.PASS
    verdict, reason = combine(found, [agreement(flagged=True)])
    assert verdict is Verdict.DRIFT
    assert "the rank distance of a and b together moved beyond it" in reason


def test_lost_maps_that_could_hide_what_all_see_together_are_no_pass():
    verdict, reason = combine([finding("a", "PASS"), finding("b", "PASS")], [agreement(hides=True)])
    assert verdict is Verdict.INCONCLUSIVE
    told = "the maps that the candidate lost could hide a move"
    assert reason == f"rank_distance of a and b together on slice all: {told}"


def test_surrogates_do_not_decide_together_either():
    found = [finding(name, "PASS", source="surrogates") for name in "ab"]
    assert combine(found, [agreement(flagged=True, source="surrogates")])[0] is Verdict.INCONCLUSIVE


def test_unfit_explainers_are_left_out():
    """They neither pass nor flag, and the one that is left is the only one."""
    left_out = finding("a", "INCONCLUSIVE", unfit=True)
    verdict, reason = combine([left_out, finding("b", "PASS"), finding("c", "PASS")])
    assert verdict is Verdict.PASS
    assert "every explainer that can measure it" in reason
    assert combine([left_out, finding("b", "DRIFT")])[0] is Verdict.DRIFT
    assert combine([left_out, finding("b", "DRIFT"), finding("c", "PASS")])[0] is Verdict.INCONCLUSIVE


def test_when_no_explainer_can_measure_nothing_is_concluded():
    verdict, reason = combine([finding(name, "INCONCLUSIVE", unfit=True) for name in "ab"])
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == "no explainer can measure here: because"


@pytest.mark.parametrize(
    ("slice_name", "statistic", "values"),
    [
        ("night", "rank_distance", (0.1, 0.1)),
        ("all", "coherent_shift", (0.1, 0.13)),
        ("all", "coherent_shift", (nan, 0.1)),
    ],
)
def test_what_no_explainer_can_measure_is_no_pass(slice_name, statistic, values):
    """A slice about which nobody can say anything is missing evidence, or a statistic that saw the candidate afar."""
    named = zip("ab", values, strict=True)
    nobody = [finding(name, "INCONCLUSIVE", slice_name, statistic, unfit=True, value=each) for name, each in named]
    verdict, reason = combine([finding("a", "PASS"), finding("b", "PASS"), *nobody])
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == f"no explainer can measure {statistic} on slice {slice_name}: because"
    somebody = [nobody[0], finding("b", "PASS", slice_name, statistic)]
    assert combine([finding("a", "PASS"), finding("b", "PASS"), *somebody])[0] is Verdict.PASS


def test_what_nobody_can_measure_stands_back_where_others_pass_and_no_model_lies_nearer_than_the_candidate():
    nobody = [finding(name, "INCONCLUSIVE", statistic="coherent_shift", unfit=True, value=0.12) for name in "ab"]
    verdict, reason = combine([finding("a", "PASS"), finding("b", "PASS"), *nobody])
    assert verdict is Verdict.PASS
    stayed = "no explainer can measure coherent_shift on slice all, but it stayed among the floor's models"
    assert reason.endswith(f"that can measure it stayed within its limit on every slice; {stayed}")
    assert combine([finding("a", "DRIFT"), finding("b", "DRIFT"), *nobody])[0] is Verdict.DRIFT


@pytest.mark.parametrize(("verdict", "told"), [("DRIFT", "would be flagged"), ("PASS", "would pass")])
def test_against_surrogates_nothing_is_decided(verdict, told):
    found = [finding(name, verdict, source="surrogates", strict=verdict == "DRIFT") for name in "ab"]
    decided, reason = combine(found)
    assert decided is Verdict.INCONCLUSIVE
    assert f"against surrogates it {told}" in reason
    assert combine([finding(name, verdict, source="history") for name in "ab"])[0] is Verdict[verdict]


verdicts = st.sampled_from(list(Verdict))
cells = st.tuples(
    st.sampled_from("abc"), st.sampled_from("xy"), verdicts, st.sampled_from(["all", "class 0", "class 1"])
)


def found_in(cells):
    return [finding(name, verdict.name, place, stratum=stratum) for name, place, verdict, stratum in cells]


@given(st.lists(cells, min_size=1), st.data())
def test_a_worse_finding_never_makes_a_better_verdict(cells, data):
    row = data.draw(st.integers(0, len(cells) - 1))
    name, place, verdict, stratum = cells[row]
    worse = data.draw(st.sampled_from([each for each in Verdict if SEVERITY[each] >= SEVERITY[verdict]]))
    after = [*cells[:row], (name, place, worse, stratum), *cells[row + 1 :]]
    assert SEVERITY[combine(found_in(after))[0]] >= SEVERITY[combine(found_in(cells))[0]]


@given(st.lists(cells, min_size=1), st.randoms(use_true_random=False))
def test_order_does_not_matter(cells, random):
    shuffled = random.sample(cells, len(cells))
    assert combine(found_in(shuffled))[0] is combine(found_in(cells))[0]


@given(st.lists(cells, min_size=1))
def test_pass_needs_a_pass_everywhere(cells):
    if combine(found_in(cells))[0] is Verdict.PASS:
        assert {verdict for _, _, verdict, stratum in cells if stratum == "all"} == {Verdict.PASS}
        assert all(verdict is not Verdict.DRIFT for _, _, verdict, _ in cells)


def decided(verdict, words=0.3, stratum="all"):
    floor = DecisionFloor((0.1, 0.11, 0.12, 0.1), ("m",) * 4)
    measured = DecisionMeasurement(
        "all", "accuracy_loss", stratum, words, 0.2, 0.4, 0.72, 0.42, np.zeros((9, 1)), floor
    )
    return DecisionFinding(measured, 0.2, 0.02, 0.2, 0.01, 0.01, Verdict[verdict], "because")


def test_pass_means_evidence_and_decisions():
    passed, moved = ([finding(name, verdict) for name in "ab"] for verdict in ("PASS", "DRIFT"))
    verdict, reason = combine(passed, decisions=[decided("PASS")])
    assert verdict is Verdict.PASS
    assert reason.endswith("stayed within its limit on every slice; its decisions stayed within theirs")
    verdict, reason = combine(passed, decisions=[decided("PASS"), decided("INCONCLUSIVE")])
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == "its decisions may have moved: on slice all accuracy fell from 72.0 % to 42.0 %: because"
    verdict, reason = combine(passed, decisions=[decided("DRIFT")])
    assert verdict is Verdict.DRIFT
    assert reason == "its decisions moved: on slice all accuracy fell from 72.0 % to 42.0 %"
    verdict, reason = combine(moved, decisions=[decided("DRIFT")])
    assert verdict is Verdict.DRIFT
    assert "; its evidence moved too: on slice all, a and b found evidence" in reason
    assert combine(moved, decisions=[decided("INCONCLUSIVE")]) == combine(moved)


def test_what_is_left_out_of_decisions_is_said():
    left_out = replace(decided("INCONCLUSIVE"), unfit=True)
    verdict, reason = combine([finding(name, "PASS") for name in "ab"], decisions=[decided("PASS"), left_out])
    assert verdict is Verdict.PASS
    assert reason.endswith("within theirs, but on slice all accuracy fell from 72.0 % to 42.0 %: because")


def test_a_class_whose_decisions_moved_is_drift_and_an_open_one_is_nothing():
    passed = [finding(name, "PASS") for name in "ab"]
    verdict, reason = combine(passed, names=("dog", "cat"), decisions=[decided("DRIFT", stratum="class 1")])
    assert verdict is Verdict.DRIFT
    assert "on class 1 (cat) of slice all accuracy fell" in reason
    assert combine(passed, decisions=[decided("PASS"), decided("INCONCLUSIVE", stratum="class 1")])[0] is Verdict.PASS


def test_a_sentence_names_four_places():
    found = [decided("DRIFT", stratum=f"class {place}") for place in range(6)]
    _, reason = combine([], decisions=found)
    assert reason.count("accuracy fell") == 4
    assert reason.endswith("; and 2 more")


def test_decisions_count_whatever_the_evidence_is_worth():
    """Surrogates never decide about evidence, and where no image is decided rightly by both there is none."""
    against_surrogates = [finding(name, "PASS", source="surrogates") for name in "ab"]
    for found in (against_surrogates, [], [finding("a", "INCONCLUSIVE", unfit=True)]):
        assert combine(found, decisions=[decided("PASS")])[0] is Verdict.INCONCLUSIVE
        assert combine(found, decisions=[decided("DRIFT")])[0] is Verdict.DRIFT
