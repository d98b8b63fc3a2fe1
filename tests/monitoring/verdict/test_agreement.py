"""What explainers see together."""

import numpy as np
import pytest
from scipy import stats

from attrail_monitoring.comparison import judge
from attrail_monitoring.verdict.agreement import agreements_of, groups_of, mean_in_units
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.policy import Policy

MODELS = ("net/2", "net/3", "net/4", "net/5", "net/6")
FLOOR = (0.30, 0.33, 0.28, 0.35, 0.31)


@pytest.fixture
def pair(measurement):
    """One statistic by two explainers, ``value`` each, with floors of the same five models."""

    def make(value, floor=FLOOR, **changes):
        names = ("gradcam", "lime")
        found = [measurement(value, floor=floor, explainer=name, **changes) for name in names]
        return [each.__class__(**(vars(each) | {"floor": each.floor.__class__(floor, MODELS)})) for each in found]

    return make


def test_distances_are_means_over_explainers_each_in_units_of_its_own_floor(pair):
    """Ten times as far as its floor by one explainer, as far as its floor by the other: 5.5 times by both."""
    first, second = pair(0.31, floor=(0.31,) * 5)[0], pair(0.02, floor=(0.002,) * 5)[1]
    (agreement,) = agreements_of(groups_of([first, second]), 0.05, [0.0])
    unit = np.sqrt(0.31 * 0.002)
    assert agreement.floor.distances == pytest.approx([unit] * 5)
    assert agreement.value == pytest.approx(5.5 * unit)
    assert mean_in_units([0.2, 0.3], [(0.1, 0.4), (0.3, 0.3)]) == pytest.approx((1 + 1) / 2 * np.sqrt(0.2 * 0.3))


@pytest.mark.parametrize(("move", "flagged"), [(1.6e-4, False), (0.4, True)])
def test_rounding_of_an_explainer_that_repeats_itself_exactly_is_no_move(pair, move, flagged):
    """As of integrated gradients of an ONNX export against its torch parent: its repeats are the same maps."""
    exact, drawing = pair(move, floor=(0.0,) * 5, width=move / 4)[0], pair(1e-7, width=0.0)[1]
    (agreement,) = agreements_of(groups_of([exact, drawing]), 0.05, [0.05])
    assert agreement.flagged is flagged
    unit = np.sqrt(0.05 * np.exp(np.log(FLOOR).mean()))
    assert agreement.value == pytest.approx(move / 0.05 / 2 * unit, rel=1e-4)
    alone = pair(move, floor=(0.0,) * 5, width=move / 4)
    (agreement,) = agreements_of(groups_of(alone), 0.05, [0.05])
    assert (agreement.flagged, agreement.value) == (flagged, pytest.approx(move)), "both: the margin's own scale"


def test_what_one_explainer_sees_far_beyond_its_floor_is_flagged_though_the_other_sees_nothing(pair):
    """The geometric mean of both would be twice the floor's."""
    scattered = (0.2, 0.31, 0.4, 0.25, 0.36)
    first, second = pair(0.3, floor=scattered, width=0.0)[0], pair(1.2, floor=scattered, width=0.0)[1]
    (agreement,) = agreements_of(groups_of([first, second]), 0.02, [0.0])
    logs = np.log(scattered)
    t = (np.log((0.3 + 1.2) / 2) - logs.mean()) / (logs.std(ddof=1) * np.sqrt(1.2))
    assert agreement.p_value == pytest.approx(stats.t.sf(t, 4))
    assert agreement.flagged
    t = (np.log((0.3 * 1.2) ** 0.5) - logs.mean()) / (logs.std(ddof=1) * np.sqrt(1.2))
    assert stats.t.sf(t, 4) > 0.02


def test_where_explainers_agree_it_is_their_distance_and_p_is_a_t_prediction(pair):
    found = pair(0.5)
    (agreement,) = agreements_of(groups_of(found), 0.05, [0.0])
    assert agreement.value == pytest.approx(0.5)
    assert agreement.floor.distances == pytest.approx(FLOOR)
    logs = np.log(FLOOR)
    t = (np.log(0.5) - logs.mean()) / (logs.std(ddof=1) * np.sqrt(1.2))
    assert agreement.p_value == pytest.approx(stats.t.sf(t, 4))


def test_a_moderate_move_that_both_see_is_drift_where_neither_alone_decides(pair):
    policy = Policy(margins={})
    report = judge(pair(0.42, width=0.005), policy)
    assert not any(finding.strict for finding in report.findings)
    assert report.agreements[0].flagged
    assert report.verdict is Verdict.DRIFT
    assert "gradcam and lime" in report.reason


def test_within_the_floor_nothing_is_flagged(pair):
    report = judge(pair(0.31, width=0.005), Policy(margins={}))
    assert not report.agreements[0].flagged
    assert report.verdict is Verdict.PASS


def test_a_move_within_the_margin_is_not_flagged(pair):
    report = judge(pair(0.42, width=0.005), Policy(margins={"rank_distance": 0.5}))
    assert not report.agreements[0].flagged


def test_one_explainer_or_different_floors_make_no_group(pair, measurement):
    assert groups_of([measurement(0.4, floor=FLOOR)]) == []
    first, second = pair(0.4)
    other = second.__class__(**(vars(second) | {"floor": second.floor.__class__(FLOOR, MODELS[::-1])}))
    assert groups_of([first, other]) == []


def test_alpha_is_shared_only_where_there_is_something_together(pair, measurement):
    policy = Policy(margins={})
    together, alone = judge(pair(0.31), policy), judge([measurement(0.31, floor=FLOOR)], policy)
    assert together.level == pytest.approx(policy.alpha * (1 - policy.together_share) * 0.8 / 2)
    assert alone.level == pytest.approx(policy.alpha * 0.8)


def test_false_flags_keep_the_level_when_explainers_agree(pair):
    """One more model of the floor, seen alike by both explainers, is flagged at most at alpha's rate."""
    generator, flagged = np.random.default_rng(0), 0
    for _ in range(600):
        drawn = np.exp(generator.normal(-1, 0.1, 6))
        found = pair(float(drawn[5]), floor=tuple(drawn[:5]), width=0.0)
        (agreement,) = agreements_of(groups_of(found), 0.05, [0.0])
        flagged += agreement.flagged
    assert flagged / 600 == pytest.approx(0.05, abs=0.03)
