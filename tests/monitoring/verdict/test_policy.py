"""Judging: monotone, three-valued, never lenient about what is missing, fair to many hypotheses."""

import dataclasses
import json
import math
import re

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.inference.multiplicity import e_benjamini_hochberg, e_values_of, holm
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.strata import class_name
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.judgement import FEW, judge_measurements
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.policy import Policy

CEILING = 2.0
SEVERITY = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.DRIFT: 2}
FLOOR = (0.1, 0.11, 0.12, 0.1, 0.13)
LEVEL = Policy().level(1)

shares = st.floats(0, 1)
floors = st.lists(st.floats(1e-3, 1.0), max_size=20).map(lambda distances: NoiseFloor(tuple(distances)))
crowds = st.lists(st.floats(1e-3, 1.0), min_size=40, max_size=90).map(lambda found: NoiseFloor(tuple(found)))


@st.composite
def measurements(draw, floors=floors):
    lower, value, upper, worst = sorted(draw(st.tuples(*[st.floats(0, CEILING)] * 4)))
    undefined = draw(st.just(0) | st.integers(0, 30))
    return Measurement(
        slice="all",
        explainer="gradcam",
        statistic="rank_distance",
        value=value,
        lower=lower,
        upper=upper,
        ceiling=CEILING,
        n=draw(st.integers(16, 300) | st.integers(1, 20)),
        undefined=undefined,
        primary=True,
        floor=draw(floors),
        worst=worst if undefined else upper,
        lost_p=draw(st.just(1.0) | shares),
    )


def policy_with(margin=None, **changes):
    return Policy(margins={} if margin is None else {"rank_distance": margin}, **changes)


margins = st.none() | st.floats(0, CEILING)


def judged(measured, margin=None, **changes):
    return judge_measurements(policy_with(margin, **changes), [measured])[0]


def moved(measured, by):
    ends = ("lower", "value", "upper", "worst")
    return dataclasses.replace(measured, **{end: getattr(measured, end) + by for end in ends})


@given(measurements(), margins, st.floats(0, CEILING))
def test_further_moves_are_never_judged_milder(measured, margin, by):
    assert SEVERITY[judged(moved(measured, by), margin).verdict] >= SEVERITY[judged(measured, margin).verdict]


@given(st.lists(measurements(), min_size=1, max_size=6), margins, st.data())
def test_a_further_move_of_one_hypothesis_judges_none_milder(found, margin, data):
    """Holm: whoever moves further may take others along, never let one go."""
    found = [dataclasses.replace(each, explainer=str(place)) for place, each in enumerate(found)]
    row, by = data.draw(st.integers(0, len(found) - 1)), data.draw(st.floats(0, CEILING))
    further = [moved(each, by) if place == row else each for place, each in enumerate(found)]
    for before, after in zip(
        judge_measurements(policy_with(margin), found), judge_measurements(policy_with(margin), further), strict=True
    ):
        assert SEVERITY[after.verdict] >= SEVERITY[before.verdict]


@given(measurements(), st.floats(0, CEILING), st.floats(0, CEILING))
def test_wider_margins_are_never_judged_harder(measured, first, second):
    """Up to the point where the limit reaches the ceiling: there nothing can be concluded any more."""
    narrow, wide = (judged(measured, margin) for margin in sorted([first, second]))
    if wide.limit < CEILING:
        assert SEVERITY[wide.verdict] <= SEVERITY[narrow.verdict]
    else:
        assert wide.verdict is Verdict.INCONCLUSIVE


@given(measurements(), margins, st.integers(1, 300), shares)
def test_more_undefined_maps_never_make_a_verdict(measured, margin, more, by):
    before = judged(measured, margin).verdict
    added = dataclasses.replace(measured, undefined=measured.undefined + more, worst=measured.worst + by)
    lost = dataclasses.replace(added, n=max(0, measured.n - more), lost_p=measured.lost_p * by)
    for worse in (added, lost):
        assert judged(worse, margin).verdict in {before, Verdict.INCONCLUSIVE}


@given(measurements(), margins)
def test_wider_intervals_never_make_a_verdict(measured, margin):
    wider = dataclasses.replace(
        measured, lower=measured.lower - 0.1, upper=measured.upper + 0.1, worst=measured.worst + 0.1
    )
    assert judged(wider, margin).verdict in {judged(measured, margin).verdict, Verdict.INCONCLUSIVE}


@given(measurements(), margins)
def test_verdicts_mean_what_they_say(measured, margin):
    """DRIFT lies beyond margin and floor, PASS within the larger of the two, both with the whole interval."""
    finding = judged(measured, margin)
    bound = measured.floor.bound(LEVEL)
    known = [limit for limit in (margin, bound) if limit is not None]
    assert finding.bound == bound
    assert finding.limit == max(known, default=None)
    if finding.verdict is Verdict.DRIFT:
        assert all(measured.lower > limit for limit in known)
        assert bound is None or finding.adjusted <= Policy().alpha
    if finding.verdict is Verdict.PASS:
        assert any(measured.worst < limit for limit in known)
    if not known or measured.n < 16 or measured.undefined > 0.05 * (measured.n + measured.undefined):
        assert finding.verdict is Verdict.INCONCLUSIVE


@given(measurements(floors | crowds), margins)
@example(
    Measurement("all", "a", "rank_distance", 0.9, 0.9, 0.9, 2.0, 99, 0, True, NoiseFloor((1.0, *[0.1] * 79))), 0.05
)
def test_what_a_model_of_the_floor_reached_is_never_flagged(measured, margin):
    """Among 80 retrains the rank test alone would flag the second furthest at 2 / 81."""
    if measured.floor.tier != "0" and measured.lower <= max(measured.floor.distances):
        assert judged(measured, margin).verdict is not Verdict.DRIFT


@given(st.lists(measurements(), min_size=1, max_size=8), margins)
def test_adjusted_p_values_are_chances(found, margin):
    for finding in judge_measurements(policy_with(margin), found):
        assert finding.adjusted is None or 0 <= finding.adjusted <= 1


def test_an_interval_that_ends_at_the_limit_is_no_pass(measurement):
    end = 1.8306295689646528
    assert judged(measurement(0.0, lower=0.0, upper=end), end).verdict is Verdict.INCONCLUSIVE


@given(measurements(), margins)
def test_strict_flags_are_flags(measured, margin):
    finding = judged(measured, margin)
    strict = finding.adjusted is not None and finding.adjusted <= 0.1 * 0.05
    assert finding.strict is (finding.verdict is Verdict.DRIFT and strict)


@given(measurements(), margins)
def test_rows_are_strict_json(measured, margin):
    row = judged(measured, margin).row()
    assert json.loads(json.dumps(row, allow_nan=False))["verdict"] == row["verdict"]


@pytest.mark.parametrize(
    ("lower", "value", "upper", "verdict"),
    [
        (0.1, 0.2, 0.29, "PASS"),
        (0.1, 0.2, 0.30, "INCONCLUSIVE"),
        (0.1, 0.2, 0.31, "INCONCLUSIVE"),
        (0.2, 0.4, 0.50, "INCONCLUSIVE"),
        (0.30, 0.4, 0.5, "INCONCLUSIVE"),
        (0.31, 0.4, 0.5, "DRIFT"),
    ],
)
def test_the_whole_interval_decides(measurement, lower, value, upper, verdict):
    measured = measurement(value, lower=lower, upper=upper)
    assert judged(measured, 0.3, margins_decide=True).verdict is Verdict[verdict]


@pytest.mark.parametrize("floor", [(), FLOOR[:3]])
@pytest.mark.parametrize("asked", [False, True])
def test_without_a_floor_margins_alone_decide_drift_only_where_the_policy_asks_for_it(measurement, floor, asked):
    """Tier 0, as for another architecture: there is no p-value, and nothing strict; every retrain leaves a margin."""
    drift, passed = (judged(measurement(value, floor=floor), 0.3, margins_decide=asked) for value in (0.4, 0.2))
    assert (drift.verdict, passed.verdict) == (Verdict.DRIFT if asked else Verdict.INCONCLUSIVE, Verdict.PASS)
    assert drift.reason.startswith("moved further than the policy's margin 0.3")
    for finding in (drift, passed):
        assert (finding.bound, finding.p_value, finding.adjusted, finding.strict) == (None, None, None, False)
        assert finding.limit == 0.3


@pytest.mark.parametrize("margin", [None, 0.5])
def test_no_number_is_inconclusive(measurement, margin):
    missing = measurement(math.nan, floor=FLOOR, n=0, undefined=50)
    finding = judged(missing, margin)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.p_value is None
    assert finding.row()["value"] is None
    assert (
        judge_measurements(policy_with(margin, fewest_images=0, undefined_limit=1), [missing])[0].verdict
        is Verdict.INCONCLUSIVE
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 15}, "only 15 images with maps in both versions; 16 needed"),
        ({"n": 94, "undefined": 6}, "6 of 100 images have no map"),
        ({"undefined": 1, "worst": 1.0}, "that one version alone has a map of could have moved beyond the limit"),
        ({"lost_p": 0.04}, r"loses the maps of more images than the reference (McNemar's exact p = 0.04)"),
        ({"floor": FLOOR[:3]}, "3 reference retrains are no floor: give 4 or more"),
        ({"floor": (0.001, 1.9, 0.001, 1.9)}, "so wide that no move could exceed"),
        ({"value": 0.155}, "the interval contains the limit"),
    ],
)
def test_reasons_to_stay_inconclusive(measurement, changes, reason):
    finding = judged(measurement(**({"value": 0.05, "floor": FLOOR} | changes)))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert reason in finding.reason


def test_the_images_that_would_decide(measurement):
    """Half of the way to the limit needs a quarter of the width: four times the images."""
    assert "about 400 images would decide" in judged(measurement(0.25, 0.1), 0.3).reason
    assert "more images alone will not decide" in judged(measurement(0.3, 0.1), 0.3).reason


def test_alpha_is_shared_by_the_primary_hypotheses(measurement):
    """Three explainers with one primary and one descriptive statistic each: a third of alpha, strict a tenth of it."""
    found = [measurement(explainer=name, floor=FLOOR, primary=primary) for name in "abc" for primary in (True, False)]
    level = policy_with().level(3)
    assert level == pytest.approx(0.05 * (1 - Policy().class_share) / 3)
    for finding in judge_measurements(policy_with(), found):
        assert finding.bound == pytest.approx(NoiseFloor(FLOOR).bound(level), rel=1e-9)
    for p_value, strict in [(0.9 * 0.1 * level, True), (1.1 * 0.1 * level, False)]:
        far = NoiseFloor(FLOOR).bound(p_value)
        finding = judge_measurements(policy_with(), [measurement(far, 1e-6, FLOOR), *found[2:]])[0]
        assert finding.p_value == pytest.approx(p_value, rel=1e-6)
        assert finding.verdict is Verdict.DRIFT
        assert finding.strict is strict


@given(st.lists(measurements(), min_size=1, max_size=8), margins)
def test_holm_flags_all_that_bonferroni_would(found, margin):
    """And its adjusted p-values are Holm's, on the share of alpha that primary hypotheses have."""
    policy = policy_with(margin)
    findings = judge_measurements(policy, [dataclasses.replace(each, lost_p=1.0, undefined=0) for each in found])
    share, level = 1 - policy.class_share, policy.level(len(found))
    known = [finding for finding in findings if finding.adjusted is not None]
    chances = [finding.measurement.floor.p_value(finding.measurement.lower) for finding in known]
    assert [finding.adjusted for finding in known] == pytest.approx((holm(chances) / share).clip(max=1))
    for finding, chance in zip(known, chances, strict=True):
        limit = finding.measurement.floor.bound(level)
        beyond = finding.measurement.lower > max(limit, margin or 0)
        if chance < level * (1 - 1e-9) and beyond and finding.measurement.n >= 16 and finding.limit < CEILING:
            assert finding.verdict is Verdict.DRIFT


def test_holm_flags_more_than_bonferroni_would(measurement):
    """With the first of two flagged the second has all of alpha to itself."""
    floor, level = NoiseFloor(FLOOR), policy_with().level(2)
    near = floor.bound(1.5 * level)
    found = [measurement(near + 1e-4, 5e-5, FLOOR), measurement(0.9, 1e-6, FLOOR, explainer="lime")]
    first, second = judge_measurements(policy_with(), found)
    assert (first.verdict, second.verdict) == (Verdict.DRIFT, Verdict.DRIFT)
    assert first.limit > found[0].upper
    assert "the level that the other flags leave" in first.reason
    alone = judge_measurements(
        policy_with(), [found[0], dataclasses.replace(found[1], value=0.1, lower=0.1, upper=0.1)]
    )[0]
    assert alone.verdict is not Verdict.DRIFT


def of_classes(measurement, p_values, **changes):
    """The whole slice, unmoved, and one class for each p-value that its lower end is to have."""
    whole = measurement(0.11, 0.001, FLOOR)
    far = [NoiseFloor(FLOOR).bound(p_value) for p_value in p_values]
    facts = {"primary": False, "localised": True, "ceiling": 1e9} | changes
    classes = [measurement(value, 0.0, FLOOR, stratum=class_name(number), **facts) for number, value in enumerate(far)]
    return [whole, *classes]


@pytest.mark.parametrize("count", [1, 5, FEW, FEW + 1, 2 * FEW])
def test_class_hypotheses_are_holms_few_and_e_bh_many(measurement, count):
    p_values = np.geomspace(1e-9, 3e-2, count)
    policy = policy_with()
    _, *classes = judge_measurements(policy, of_classes(measurement, p_values))
    adjusted = e_benjamini_hochberg(e_values_of(p_values)) if count > FEW else holm(p_values)
    expected = (adjusted / policy.class_share).clip(max=1)
    assert [finding.adjusted for finding in classes] == pytest.approx(expected, rel=1e-4)
    flagged = [finding.verdict is Verdict.DRIFT for finding in classes]
    assert flagged == [each <= policy.alpha for each in expected]
    assert any(flagged)


def test_classes_have_a_share_of_alpha_of_their_own(measurement):
    """However many classes there are, the primary hypotheses are judged as before."""
    alone = judge_measurements(policy_with(), [measurement(0.11, 0.001, FLOOR)])[0]
    among = judge_measurements(policy_with(), of_classes(measurement, [1e-6, 0.5, 0.5]))
    assert among[0] == alone
    level = Policy().alpha * Policy().class_share
    assert among[1].bound == pytest.approx(NoiseFloor(FLOOR).bound(level), rel=1e-9)
    near = judge_measurements(policy_with(), of_classes(measurement, [level * 0.9]))[1]
    assert near.verdict is Verdict.DRIFT
    beside = judge_measurements(policy_with(), of_classes(measurement, [level * 0.9, 0.5]))[1]
    assert beside.verdict is Verdict.INCONCLUSIVE
    assert "not clearly enough among this many hypotheses" in beside.reason


def test_classes_that_cannot_be_flagged_are_no_hypotheses(measurement):
    """Small classes do not take alpha from large ones."""
    few = of_classes(measurement, [0.5] * 9, n=15)[1:]
    near = of_classes(measurement, [Policy().alpha * Policy().class_share * 0.9])
    found = judge_measurements(policy_with(), [*near, *few])
    assert found[1].verdict is Verdict.DRIFT
    assert {finding.adjusted for finding in found[2:]} == {None}


def test_a_class_without_a_floor_of_its_own_is_not_judged_by_its_margin(measurement):
    """Retrains move maps by 0.1: a class in which only three of them had enough images would always be flagged."""
    whole = measurement(0.11, 0.001, FLOOR)
    thin = measurement(0.12, 0.001, FLOOR[:3], stratum="class 3", primary=False, localised=True)
    policy = policy_with(0.05)
    finding = judge_measurements(policy, [whole, thin])[1]
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert "only 3 of the floor's models have enough such images: no floor for class 3" in finding.reason
    asked = policy_with(0.05, margins_decide=True)
    margins_only = judge_measurements(asked, [dataclasses.replace(whole, floor=NoiseFloor()), thin])[1]
    assert margins_only.verdict is Verdict.DRIFT


@pytest.mark.parametrize(
    ("changes", "hides"),
    [
        ({"n": 20, "undefined": 1, "lost": 1}, True),
        ({"n": 15, "undefined": 1, "lost": 1}, True),
        ({"n": 0, "undefined": 20, "lost": 20, "value": math.nan}, True),
        ({"n": 15, "undefined": 1, "lost": 0}, False),
        ({"n": 14, "undefined": 1, "lost": 1}, False),
        ({"n": 300, "undefined": 1, "lost": 1}, False),
        ({"n": 20, "undefined": 4, "lost": 1}, False),
        ({"n": 20, "undefined": 1, "lost": 1, "localised": False}, False),
        ({"n": 20, "undefined": 1, "lost": 1, "value": 1.0}, False),
        ({"n": 20, "undefined": 1, "lost": 1, "floor": (0.001, 1.9, 0.001, 1.9)}, False),
    ],
)
def test_a_class_whose_lost_maps_could_hide_a_flag_is_told(measurement, changes, hides):
    """One image of twenty at 2.0 lifts 0.105 beyond the bound; of three hundred it does not. Classes that were never
    going to be flagged, or are, hide nothing."""
    facts = {"value": 0.105, "width": 0.001, "floor": FLOOR, "stratum": "class 3", "primary": False}
    measured = measurement(**(facts | {"localised": True} | changes))
    assert judge_measurements(policy_with(0.05), [measurement(0.11, 0.001, FLOOR), measured])[1].hides is hides


@given(st.integers(16, 60), st.floats(0.01, 0.5), st.floats(0, CEILING), st.integers(1, 8), floors)
def test_a_class_flag_survives_lost_maps_or_is_said_to_be_hidden(images, value, end, lost, floor):
    """Whatever the lost images showed, from nothing to everything: what was flagged with them is not let off."""
    lost = min(lost, images - 1)
    whole = ((images - lost) * value + lost * end) / images
    facts = {"slice": "all", "explainer": "a", "statistic": "rank_distance", "ceiling": CEILING, "floor": floor}
    headline = Measurement(**facts, value=0.1, lower=0.1, upper=0.1, worst=0.1, n=500, undefined=0, primary=True)
    facts |= {"stratum": "class 3", "localised": True, "primary": False}
    before = Measurement(**facts, value=whole, lower=whole, upper=whole, worst=whole, n=images, undefined=0)
    after = Measurement(
        **facts, value=value, lower=value, upper=value, worst=CEILING, n=images - lost, undefined=lost, lost=lost
    )
    full, holed = (judge_measurements(policy_with(0.05), [headline, each])[1] for each in (before, after))
    if full.verdict is Verdict.DRIFT:
        assert holed.verdict is Verdict.DRIFT or holed.hides


NOISY = ExplainerSanity(repeat={"rank_distance": 0.0113})
QUIET = ExplainerSanity(repeat={"rank_distance": 0.0111}, random_head={"rank_distance": 0.131})
BLIND = ExplainerSanity(repeat={"rank_distance": 0.0}, random_head={"rank_distance": 0.13})


@pytest.mark.parametrize(
    ("instrument", "reason"),
    [
        (NOISY, "the explainer's own draws change the distance by 0.011, more than 10% of the floor (0.11)"),
        (BLIND, "does not notice a random head (distance 0.13, retrains reach 0.13): it is left out"),
        (QUIET, None),
        (ExplainerSanity(), None),
        (None, None),
    ],
)
@pytest.mark.parametrize("value", [0.05, 0.9])
def test_an_explainer_that_cannot_measure_is_unfit(measurement, instrument, reason, value):
    """Noise beyond a tenth of the floor's mean, 0.112, or a random head no further than the furthest retrain, 0.13."""
    found = judge_measurements(policy_with(), [measurement(value, 0.001, FLOOR)], {("all", "gradcam"): instrument})[0]
    assert found.unfit is (reason is not None)
    if reason:
        assert found.verdict is Verdict.INCONCLUSIVE
        assert reason in found.reason
    else:
        assert found.verdict is (Verdict.PASS if value < 0.1 else Verdict.DRIFT)


def test_draws_that_move_less_than_a_tenth_of_the_margin_do_not_matter(measurement):
    """A candidate that decides as the reference does has a floor near 0: any draw would be more than a tenth of it."""
    quiet, loud = (
        judge_measurements(
            policy_with(0.05),
            [measurement(0.01, 0.001, (0.002,) * 5)],
            {("all", "gradcam"): ExplainerSanity(repeat={"rank_distance": repeat})},
        )[0]
        for repeat in (0.004, 0.006)
    )
    assert (quiet.unfit, quiet.verdict) == (False, Verdict.PASS)
    assert loud.unfit
    assert "more than 10% of the margin (0.05)" in loud.reason


def test_unfit_explainers_are_no_hypotheses(measurement):
    instruments = {("all", "lime"): NOISY, ("all", "shap"): BLIND}
    found = [measurement(explainer=name, floor=FLOOR) for name in ("gradcam", "lime", "shap")]
    judged_ = judge_measurements(policy_with(), found, instruments)
    assert [finding.unfit for finding in judged_] == [False, True, True]
    assert judged_[0].bound == pytest.approx(NoiseFloor(FLOOR).bound(LEVEL), rel=1e-9)
    assert [finding.adjusted is None for finding in judged_] == [False, True, True]


def test_what_an_explainer_can_measure_is_asked_of_the_whole_slice(measurement):
    """Small classes have further floors; the random head was not measured on them."""
    whole = measurement(0.11, 0.001, FLOOR)
    small = measurement(0.5, 0.001, (0.3, 0.2, 0.25, 0.3), stratum="class 1", primary=False, localised=True)
    found = judge_measurements(policy_with(), [whole, small], {("all", "gradcam"): QUIET})
    assert [finding.unfit for finding in found] == [False, False]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0}, "alpha must lie between 0 and 1"),
        ({"alpha": math.nan}, "alpha must lie between 0 and 1"),
        ({"strict": 1}, "strict must lie between 0 and 1"),
        ({"class_share": 0}, "class_share must lie between 0 and 1"),
        ({"undefined_limit": 1.1}, "undefined_limit must lie in"),
        ({"repeat_limit": -0.1}, "repeat_limit must lie in"),
        ({"decision_share": 1}, "decision_share must lie between 0 and 1"),
        ({"accuracy_margin": -0.1}, r"accuracy_margin must lie in 0\.\.1"),
        ({"churn_margin": 1.1}, r"churn_margin must lie in 0\.\.1"),
        ({"calibration_margin": True}, r"calibration_margin must lie in 0\.\.1"),
        ({"margins": {"rank_distance": -0.1}}, "margin of rank_distance must lie in"),
        ({"margins": {"rank_distance": math.nan}}, "margin of rank_distance must lie in"),
        ({"margins": {"rank_distance": 2.1}}, "margin of rank_distance must lie in"),
        ({"margins": {"rank_distance": True}}, "margin of rank_distance must lie in"),
        *[
            (
                {"margins": each},
                rf"policy: margins must give a distance for each statistic.*, not {re.escape(repr(each))}",
            )
            for each in (True, 0.05, None, "0.05", [("rank_distance", 0.05)])
        ],
        ({"settings": True}, "policy: settings must be Settings, not True"),
        ({"targets": "labels"}, "targets must be label or reference, not 'labels'"),
    ],
)
def test_impossible_policies_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Policy(**change)


@pytest.mark.parametrize("value", [True, "1", math.nan, math.inf, -1, None], ids=str)
@pytest.mark.parametrize("kind", [Policy, Settings])
def test_every_number_of_a_policy_is_one(kind, value):
    """True is no 1, as a share of the evidence or a number of images."""
    for each in dataclasses.fields(kind):
        if each.type in (int, float):
            with pytest.raises(ConfigError, match=rf"policy: {each.name} must .*, not {re.escape(repr(value))}"):
                kind(**{each.name: value})
        if each.type is int:
            with pytest.raises(ConfigError, match=rf"policy: {each.name} must be a whole number.*, not 16\.0"):
                kind(**{each.name: 16.0})


def test_numbers_of_numpy_make_the_policy_that_pythons_make():
    given = Policy(
        alpha=np.float32(0.0625),
        margins={"rank_distance": np.float64(0.05)},
        fewest_images=np.int64(20),
        settings=Settings(grid=np.int32(7), seed=np.uint8(3)),
    )
    expected = Policy(
        alpha=0.0625, margins={"rank_distance": 0.05}, fewest_images=20, settings=Settings(grid=7, seed=3)
    )
    assert given == expected
    assert given.digest == expected.digest
    assert json.dumps(dataclasses.asdict(given)) == json.dumps(dataclasses.asdict(expected))


def test_shares_must_leave_some_of_alpha():
    with pytest.raises(ConfigError, match=r"must leave some of alpha, got 0.6 \+ 0.4"):
        Policy(together_share=0.6)


def test_single_images_take_their_share_of_alpha():
    policy = Policy()
    assert policy.level(2, moved=True) == pytest.approx(policy.alpha * (1 - policy.moved_share) * 0.8 / 2)
    assert policy.level(1, True, True) == pytest.approx(policy.alpha * 0.2 * 0.8)


def test_decisions_take_their_share_of_alpha_first():
    policy = Policy(decision_share=0.3)
    assert policy.evidence(False) == policy.alpha
    assert policy.evidence(True) == pytest.approx(0.7 * policy.alpha)
    assert policy.level(1, True, True, True) == pytest.approx(0.7 * policy.level(1, True, True))


def test_margins_of_unknown_statistics_are_refused():
    with pytest.raises(UnknownNameError, match="'ndcg': known are"):
        Policy(margins={"ndcg": 0.1})


CHANGES = [
    {"alpha": 0.01},
    {"strict": 0.2},
    {"class_share": 0.3},
    {"together_share": 0.3},
    {"moved_share": 0.3},
    {"decision_share": 0.3},
    {"accuracy_margin": 0.01},
    {"churn_margin": 0.2},
    {"calibration_margin": 0.1},
    {"moved_margin": 0.1},
    {"margins": {"coherent_shift": 0.06}},
    {"undefined_limit": 0.1},
    {"fewest_images": 17},
    {"repeat_limit": 0.2},
    {"targets": "reference"},
    {"margins_decide": True},
    {"looks": (64, 128)},
    {"settings": Settings(grid=7)},
    {"settings": Settings(resamples=100)},
    {"settings": Settings(confidence=0.9)},
    {"settings": Settings(seed=1)},
    {"settings": Settings(class_images=20)},
]


@pytest.mark.parametrize("change", CHANGES)
def test_digest_depends_on_every_field(change):
    assert Policy(**change).digest != Policy().digest == Policy().digest


def test_every_field_of_a_policy_was_tried():
    assert {name for change in CHANGES for name in change} == {each.name for each in dataclasses.fields(Policy)}
    tried = [change["settings"] for change in CHANGES if "settings" in change]
    for each in dataclasses.fields(Settings):
        assert any(getattr(settings, each.name) != each.default for settings in tried), each.name
