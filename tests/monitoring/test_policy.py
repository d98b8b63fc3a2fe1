"""Judging: monotone, three-valued, never lenient about what is missing."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_monitoring.comparison import compare
from attrail_monitoring.floor import NoiseFloor
from attrail_monitoring.measurement import Measurement, Settings
from attrail_monitoring.policy import Policy, combine
from attrail_monitoring.verdict import Finding, Verdict

CEILING = 2.0
SEVERITY = {Verdict.PASS: 0, Verdict.INCONCLUSIVE: 1, Verdict.DRIFT: 2}
FLOOR = (0.1, 0.11, 0.12, 0.1, 0.13)

shares = st.floats(0, 1)
floors = st.lists(st.floats(1e-3, 1.0), max_size=20).map(lambda distances: NoiseFloor(tuple(distances)))


@st.composite
def measurements(draw):
    lower, value, upper = sorted(draw(st.tuples(*[st.floats(0, CEILING)] * 3)))
    return Measurement(
        slice="all",
        explainer="gradcam",
        statistic="rank_distance",
        value=value,
        lower=lower,
        upper=upper,
        ceiling=CEILING,
        n=draw(st.integers(16, 300) | st.integers(1, 20)),
        undefined=draw(st.just(0) | st.integers(0, 30)),
        primary=True,
        floor=draw(floors),
    )


def policy_with(margin=None, **changes):
    return Policy(margins={} if margin is None else {"rank_distance": margin}, **changes)


margins = st.none() | st.floats(0, CEILING)


def judged(measured, margin=None):
    return policy_with(margin).judge([measured])[0]


@given(measurements(), margins, st.floats(0, CEILING))
def test_further_moves_are_never_judged_milder(measured, margin, by):
    further = dataclasses.replace(
        measured, lower=measured.lower + by, value=measured.value + by, upper=measured.upper + by
    )
    assert SEVERITY[judged(further, margin).verdict] >= SEVERITY[judged(measured, margin).verdict]


@given(measurements(), st.floats(0, CEILING), st.floats(0, CEILING))
def test_wider_margins_are_never_judged_harder(measured, first, second):
    """Up to the point where the limit reaches the ceiling: there nothing can be concluded any more."""
    narrow, wide = (judged(measured, margin) for margin in sorted([first, second]))
    if wide.limit < CEILING:
        assert SEVERITY[wide.verdict] <= SEVERITY[narrow.verdict]
    else:
        assert wide.verdict is Verdict.INCONCLUSIVE


@given(measurements(), margins, st.integers(1, 300))
def test_more_undefined_maps_never_make_a_verdict(measured, margin, more):
    before = judged(measured, margin).verdict
    added = dataclasses.replace(measured, undefined=measured.undefined + more)
    lost = dataclasses.replace(measured, undefined=measured.undefined + more, n=max(0, measured.n - more))
    for worse in (added, lost):
        assert judged(worse, margin).verdict in {before, Verdict.INCONCLUSIVE}


@given(measurements(), margins)
def test_wider_intervals_never_make_a_verdict(measured, margin):
    wider = dataclasses.replace(measured, lower=measured.lower - 0.1, upper=measured.upper + 0.1)
    assert judged(wider, margin).verdict in {judged(measured, margin).verdict, Verdict.INCONCLUSIVE}


@given(measurements(), margins)
def test_verdicts_mean_what_they_say(measured, margin):
    """DRIFT lies beyond margin and floor, PASS within the larger of the two, both with the whole interval."""
    finding = judged(measured, margin)
    bound = measured.floor.bound(0.05)
    known = [limit for limit in (margin, bound) if limit is not None]
    assert finding.bound == bound
    assert finding.limit == max(known, default=None)
    if finding.verdict is Verdict.DRIFT:
        assert all(measured.lower > limit for limit in known)
    if finding.verdict is Verdict.PASS:
        assert any(measured.upper < limit for limit in known)
    if not known or measured.n < 16 or measured.undefined > 0.05 * (measured.n + measured.undefined):
        assert finding.verdict is Verdict.INCONCLUSIVE


def test_an_interval_that_ends_at_the_limit_is_no_pass():
    """A mean of 24 equal numbers must not round below them: found by hypothesis."""
    end = 1.8306295689646528
    facts = {"slice": "all", "explainer": "gradcam", "statistic": "rank_distance", "value": 0.0, "lower": 0.0}
    measured = Measurement(**facts, upper=end, ceiling=2.0, n=24, undefined=0, primary=True)
    assert judged(measured, end).verdict is Verdict.INCONCLUSIVE


@given(measurements(), margins)
def test_strict_flags_are_flags(measured, margin):
    finding = judged(measured, margin)
    strict = finding.p_value is not None and finding.p_value < 0.1 * 0.05
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
    assert judged(measured, 0.3).verdict is Verdict[verdict]


@pytest.mark.parametrize("margin", [None, 0.5])
def test_no_number_is_inconclusive(measurement, margin):
    missing = measurement(math.nan, floor=FLOOR, n=0, undefined=50)
    finding = judged(missing, margin)
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert finding.p_value is None
    assert finding.row()["value"] is None
    assert policy_with(margin, fewest_images=0, undefined_limit=1).judge([missing])[0].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"n": 15}, "only 15 images with maps in both versions; 16 needed"),
        ({"n": 94, "undefined": 6}, "6 of 100 images have no map"),
        ({"floor": FLOOR[:3]}, "3 reference retrains are no floor: give 4 or more"),
        ({"floor": (0.001, 1.9, 0.001, 1.9)}, "so wide that no move could exceed"),
        ({"value": 0.155}, "the interval contains the limit"),
    ],
)
def test_reasons_to_stay_inconclusive(measurement, changes, reason):
    finding = judged(measurement(**({"value": 0.05, "floor": FLOOR} | changes)))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert reason in finding.reason


def test_alpha_is_divided_by_the_primary_hypotheses(measurement):
    """Three explainers with one primary and one descriptive statistic each: a third of alpha, strict a tenth of it."""
    found = [measurement(explainer=name, floor=FLOOR, primary=primary) for name in "abc" for primary in (True, False)]
    for finding in policy_with().judge(found):
        assert finding.bound == pytest.approx(NoiseFloor(FLOOR).bound(0.05 / 3), rel=1e-9)
    level = 0.05 / 3
    for p_value, strict in [(0.9 * 0.1 * level, True), (1.1 * 0.1 * level, False)]:
        far = NoiseFloor(FLOOR).bound(p_value)
        finding = policy_with().judge([measurement(far, 1e-6, FLOOR), *found[2:]])[0]
        assert finding.p_value == pytest.approx(p_value, rel=1e-6)
        assert finding.verdict is Verdict.DRIFT
        assert finding.strict is strict


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alpha": 0}, "alpha must lie between 0 and 1"),
        ({"alpha": math.nan}, "alpha must lie between 0 and 1"),
        ({"strict": 1}, "strict must lie between 0 and 1"),
        ({"undefined_limit": 1.1}, "undefined_limit must lie in"),
        ({"margins": {"rank_distance": -0.1}}, "margin of rank_distance must lie in"),
        ({"margins": {"rank_distance": math.nan}}, "margin of rank_distance must lie in"),
        ({"margins": {"rank_distance": 2.1}}, "margin of rank_distance must lie in"),
    ],
)
def test_impossible_policies_are_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        Policy(**change)


def test_margins_of_unknown_statistics_are_refused():
    with pytest.raises(UnknownNameError, match="'ndcg': known are"):
        Policy(margins={"ndcg": 0.1})


@pytest.mark.parametrize(
    "change",
    [
        {"alpha": 0.01},
        {"strict": 0.2},
        {"margins": {"coherent_shift": 0.06}},
        {"undefined_limit": 0.1},
        {"fewest_images": 17},
        {"targets": "reference"},
        {"settings": Settings(grid=7)},
        {"settings": Settings(resamples=100)},
        {"settings": Settings(confidence=0.9)},
        {"settings": Settings(seed=1)},
    ],
)
def test_digest_depends_on_every_field(change):
    assert Policy(**change).digest != Policy().digest == Policy().digest


def test_every_field_of_a_policy_was_tried():
    assert {field.name for field in dataclasses.fields(Policy)} == {
        "alpha",
        "strict",
        "margins",
        "undefined_limit",
        "fewest_images",
        "targets",
        "settings",
    }


@pytest.fixture
def finding(measurement):
    def make(explainer, verdict, slice_name="all", strict=False, primary=True, statistic="rank_distance"):
        measured = measurement(explainer=explainer, slice=slice_name, primary=primary, statistic=statistic)
        return Finding(measured, None, None, None, None, Verdict[verdict], strict, "because")

    return make


def test_all_pass_is_pass(finding):
    assert combine([finding("a", "PASS"), finding("b", "PASS")])[0] is Verdict.PASS


def test_two_explainers_are_drift(finding):
    verdict, reason = combine([finding("a", "DRIFT"), finding("b", "DRIFT"), finding("c", "PASS")])
    assert verdict is Verdict.DRIFT
    assert "slice all, a and b found" in reason


def test_two_explainers_on_different_slices_are_not(finding):
    found = [
        finding("a", "DRIFT", "x"),
        finding("b", "PASS", "x"),
        finding("a", "PASS", "y"),
        finding("b", "DRIFT", "y"),
    ]
    assert combine(found)[0] is Verdict.INCONCLUSIVE


def test_two_statistics_of_one_explainer_are_a_lone_flag(finding):
    found = [
        finding("a", "DRIFT"),
        finding("a", "DRIFT", statistic="coherent_shift"),
        finding("b", "PASS"),
        finding("b", "PASS", statistic="coherent_shift"),
    ]
    verdict, reason = combine(found)
    assert verdict is Verdict.INCONCLUSIVE
    assert "a alone flagged rank_distance on slice all: method-specific" in reason


def test_one_explainer_at_the_strict_level_is_drift(finding):
    verdict, reason = combine([finding("a", "DRIFT", strict=True), finding("b", "PASS")])
    assert verdict is Verdict.DRIFT
    assert "a alone flagged a move, at the strict level" in reason


def test_the_only_explainer_is_drift(finding):
    assert combine([finding("a", "DRIFT")])[0] is Verdict.DRIFT
    assert combine([finding("a", "DRIFT"), finding("a", "PASS", "other")])[0] is Verdict.DRIFT


def test_one_open_question_is_inconclusive(finding):
    verdict, reason = combine([finding("a", "PASS"), finding("b", "INCONCLUSIVE", "night")])
    assert verdict is Verdict.INCONCLUSIVE
    assert reason == "rank_distance of b on slice night: because"


def test_descriptive_statistics_never_decide(finding):
    others = [finding("a", "DRIFT", strict=True, primary=False), finding("b", "DRIFT", primary=False)]
    assert combine([finding("a", "PASS"), *others])[0] is Verdict.PASS
    assert combine(others) == (Verdict.INCONCLUSIVE, "no primary statistic was measured")
    assert combine([])[0] is Verdict.INCONCLUSIVE


verdicts = st.sampled_from(list(Verdict))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy"), verdicts), min_size=1), st.data())
def test_a_worse_finding_never_makes_a_better_verdict(cells, data):
    def findings(cells):
        return [
            Finding(
                Measurement(place, name, "rank_distance", 0.1, 0.1, 0.1, 2.0, 100, 0, True),
                *(None, None, None, None),
                verdict,
                False,
                "because",
            )
            for name, place, verdict in cells
        ]

    row = data.draw(st.integers(0, len(cells) - 1))
    worse = [*cells]
    worse[row] = (
        *cells[row][:2],
        data.draw(st.sampled_from([v for v in Verdict if SEVERITY[v] >= SEVERITY[cells[row][2]]])),
    )
    assert SEVERITY[combine(findings(worse))[0]] >= SEVERITY[combine(findings(cells))[0]]


def test_losing_the_maps_of_images_that_moved_is_no_pass(maps):
    """20 of 400 images moved as far as they can; with their maps lost, the rest alone would pass."""
    generator = np.random.default_rng(0)
    reference = np.abs(generator.normal(size=(400, 6, 6))) + np.arange(36).reshape(6, 6)
    candidate = reference.copy()
    candidate[:20] = -candidate[:20]
    lost = candidate.copy()
    lost[:20] = np.nan
    policy = Policy(margins={"rank_distance": 0.06, "coherent_shift": 0.04})
    verdicts = {}
    for name, values in (("kept", candidate), ("lost", lost), ("unmoved", reference)):
        report = compare(maps(reference), maps(values, model=f"net/{name}"), policy=policy)
        verdicts[name] = {f.measurement.statistic: f.verdict for f in report.findings}["rank_distance"]
    assert verdicts == {"kept": Verdict.INCONCLUSIVE, "lost": Verdict.INCONCLUSIVE, "unmoved": Verdict.PASS}
