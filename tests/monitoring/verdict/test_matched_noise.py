"""Verdicts over matched noise: PASS, a notice in words, and DRIFT only where the zoo has shown that it may be said."""

from dataclasses import replace

import pytest

from attrail_monitoring.comparison import judge
from attrail_monitoring.floor.factors import Factor
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.judged import judged_rows
from attrail_monitoring.verdict.policy import Policy

DRAWS = (0.1, 0.12, 0.11, 0.1, 0.13)
NAMES = tuple(f"net/1 with noise {draw}" for draw in range(1, 6))
PLAIN = NoiseFloor(DRAWS, NAMES, "noise")
FACTOR = Factor(log_mean=0.5, log_sd=0.2, freedom=20, lowest=1.1, highest=2.5)
NOTICED = replace(PLAIN, factor=FACTOR)
JOINT = replace(FACTOR, log_sd=0.1, decides=True)
DECIDING = replace(PLAIN, factor=replace(FACTOR, decides=True), joint=JOINT)
POLICY = Policy(margins={"rank_distance": 0.05})


@pytest.fixture
def report(measurement):
    def make(value, floor, policy=POLICY, change="retrain"):
        found = [measurement(value, floor=(), explainer=name) for name in ("gradcam", "shap")]
        return judge([replace(each, floor=floor) for each in found], policy, change=change)

    return make


@pytest.mark.parametrize("floor", [NOTICED, DECIDING])
def test_what_stays_within_it_passes(report, floor):
    found = report(0.15, floor)
    assert found.verdict is Verdict.PASS
    assert found.next_step == ""


def test_noise_that_never_flags_passes_four_of_five_honest_versions(report):
    """A wide bound would flag nothing and let harm pass: where nothing is flagged, the bound is there to ask."""
    bound = NOTICED.bound(0.2)
    assert report(0.9 * bound, NOTICED).verdict is Verdict.PASS
    found = report(1.1 * bound, NOTICED)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "times as far as weight noise" in found.reason
    assert found.findings[0].limit == pytest.approx(bound)
    alone = replace(DECIDING, joint=None)
    assert report(1.1 * bound, alone).verdict is Verdict.PASS  # where it may flag, alpha is what it may flag at


def test_beyond_it_a_notice_says_how_far_beside_honest_versions_and_what_would_decide(report):
    found = report(0.9, NOTICED)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert not found.agreements
    assert "moved 8 times as far as weight noise that moves the decisions as far" in found.reason
    assert "honest versions of the zoo lie between 1.1 and 2.5" in found.reason
    assert found.next_step.startswith("give a noise floor before you act on it")


def test_where_nothing_was_measured_that_is_said(report):
    assert "how far honest versions of this kind of change move was not measured" in report(0.9, PLAIN).reason


def test_where_the_zoo_has_shown_that_it_may_it_decides(report):
    found = report(0.9, DECIDING, change="edit")
    assert found.verdict is Verdict.DRIFT
    assert [each.flagged for each in found.agreements] == [True]
    assert found.agreements[0].floor.factor == JOINT
    rows = judged_rows(found, {"alpha": 0.05, "together_share": 0.4})
    assert [each.limit.split()[1] for each in rows] == ["noise"] * 3


def test_a_policy_may_ask_margins_and_notices_to_decide(report):
    asked = replace(POLICY, margins_decide=True)
    assert report(0.9, NOTICED, asked).verdict is Verdict.DRIFT
    assert report(0.9, NoiseFloor(), asked).verdict is Verdict.DRIFT
    assert report(0.9, NoiseFloor()).verdict is Verdict.INCONCLUSIVE
    surrogates = replace(PLAIN, source="surrogates")
    assert report(0.9, surrogates, asked).verdict is Verdict.INCONCLUSIVE
