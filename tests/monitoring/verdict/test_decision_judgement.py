"""What a policy makes of decisions: honest retrains pass, lost accuracy never does, margins alone flag nothing else."""

import numpy as np
import pytest

from attrail_monitoring.decisions.decision_statistic import make_decision_statistic
from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.floor.decision_floors import DecisionFloor
from attrail_monitoring.inference.paired_shares import chance_within
from attrail_monitoring.verdict.combination import combine
from attrail_monitoring.verdict.decision_judgement import judge_decisions
from attrail_monitoring.verdict.decision_measurement import DecisionMeasurement
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.next_step import next_step
from attrail_monitoring.verdict.policy import Policy

POLICY = Policy()
CHURNS, LOSSES = (0.16, 0.2, 0.26, 0.19, 0.22), (-0.01, 0.02, 0.0, 0.03, 0.01)


def measured(statistic, lost, gained=0, n=256, floor=(), source="retrains", stratum="all"):
    """A measurement of ``n`` images of which the reference alone was right about ``lost``, the other about ``gained``.

    For churn: of which ``lost`` were decided otherwise.
    """
    made = make_decision_statistic(statistic)
    first, second = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    second[:lost] = 1
    first[lost : lost + gained] = 1
    pair = [Decisions(each, np.zeros(n, dtype=int)) for each in (first, second)]
    terms = made.terms(*pair)
    lower, upper = made.interval(terms, 0.95, 100, 0)
    return DecisionMeasurement(
        "night",
        statistic,
        stratum,
        float(made.value(terms.mean(axis=0))),
        lower,
        upper,
        made.level(pair[0]),
        made.level(pair[1]),
        terms,
        DecisionFloor(floor, ("m",) * len(floor), source, made.scale, n),
    )


def judged(*found, policy=POLICY):
    return [each.verdict for each in judge_decisions(policy, found)]


def test_what_honest_retrains_do_passes():
    """Of 256 images 22 % decided otherwise and four points less right: one of the five retrains did as much."""
    found = [measured("churn", 56, floor=CHURNS), measured("accuracy_loss", 20, 13, floor=LOSSES)]
    assert judged(*found) == [Verdict.PASS, Verdict.PASS]


@pytest.mark.parametrize("floor", [LOSSES, (), LOSSES[:3]])
def test_accuracy_that_fell_from_72_to_33_percent_is_drift(floor):
    (found,) = judge_decisions(POLICY, [measured("accuracy_loss", 105, 5, floor=floor)])
    assert found.verdict is Verdict.DRIFT
    verdict, reason = combine([], decisions=[found])
    assert verdict is Verdict.DRIFT
    assert reason.startswith("its decisions moved: on slice night accuracy fell from 98.0 % to 59.0 %")


@pytest.mark.parametrize("source", ["retrains", "surrogates"])
def test_it_never_passes_however_wide_the_floor(source):
    """One retrain that failed to learn makes the bound of no use."""
    (found,) = judge_decisions(POLICY, [measured("accuracy_loss", 105, 5, floor=(0, 0.01, 0.6, 0, 0.5), source=source)])
    assert found.verdict is (Verdict.INCONCLUSIVE if source == "retrains" else Verdict.DRIFT)


def test_a_margin_alone_decides_a_loss_of_accuracy_at_the_strict_level_only():
    chances = {lost: chance_within(lost, 10, 256, POLICY.accuracy_margin) for lost in range(10, 80)}
    level = POLICY.alpha * POLICY.decision_share * (1 - POLICY.class_share) * POLICY.strict
    for lost, chance in chances.items():
        expected = Verdict.DRIFT if chance <= level else Verdict.INCONCLUSIVE if (lost - 10) / 256 >= 0.02 else None
        (found,) = judged(measured("accuracy_loss", lost, 10))
        assert found is (expected or Verdict.PASS), (lost, chance)


@pytest.mark.parametrize("lost", [40, 100, 250])
def test_churn_without_a_floor_is_open_and_never_drift(lost):
    (found,) = judge_decisions(POLICY, [measured("churn", lost)])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "beyond the policy's margin 0.1; no floor was given" in found.reason
    assert judged(measured("churn", 20)) == [Verdict.PASS]


def test_beside_a_loss_of_accuracy_churn_without_a_floor_is_said_and_left_out():
    """A fifth of the decisions is what small nets turn anyway, trained anew; where labels are known they are judged."""
    found = judge_decisions(POLICY, [measured("accuracy_loss", 20, 18), measured("churn", 56)])
    assert [(each.verdict, each.unfit) for each in found] == [(Verdict.PASS, False), (Verdict.INCONCLUSIVE, True)]
    assert found[1].step == ""
    backed = judge_decisions(POLICY, [measured("accuracy_loss", 20, 18), measured("churn", 100, floor=CHURNS)])
    assert not backed[1].unfit


def test_churn_beyond_the_floor_is_drift_and_between_it_is_open():
    found = judge_decisions(POLICY, [measured("churn", lost, floor=CHURNS) for lost in (50, 100, 200)])
    assert [each.verdict for each in found] == [Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.DRIFT]
    assert len({each.limit for each in found}) == 1
    assert "not clearly enough" in found[1].reason


def test_gains_pass():
    assert (
        judged(measured("accuracy_loss", 5, 70), measured("accuracy_loss", 5, 70, floor=LOSSES)) == [Verdict.PASS] * 2
    )


def test_a_margin_of_nothing_lets_nothing_pass_but_nothing():
    policy = Policy(accuracy_margin=0, churn_margin=0)
    found = [measured("accuracy_loss", 0), measured("accuracy_loss", 1), measured("churn", 0), measured("churn", 1)]
    assert judged(*found, policy=policy) == [Verdict.PASS, Verdict.INCONCLUSIVE] * 2


def test_few_images_decide_nothing():
    (found,) = judge_decisions(POLICY, [measured("accuracy_loss", 15, n=15)])
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.adjusted is None
    assert (found.reason, found.step) == ("only 15 images; 16 needed", "add 1 image to slice night")


def test_a_class_is_flagged_with_a_floor_alone_and_never_keeps_from_pass():
    wide = (0.02, -0.04, 0.0, 0.04, -0.02, 0.0)
    bare, backed = (measured("accuracy_loss", 45, n=50, floor=each, stratum="class 3") for each in ((), wide))
    (open_,) = judge_decisions(POLICY, [bare])
    assert open_.verdict is Verdict.INCONCLUSIVE
    assert open_.adjusted is None
    (flagged,) = judge_decisions(POLICY, [backed])
    assert flagged.verdict is Verdict.DRIFT
    whole = judge_decisions(POLICY, [measured("accuracy_loss", 2, floor=LOSSES), bare])
    assert combine([], decisions=whole)[0] is not Verdict.DRIFT
    _, reason = combine([], names=("a", "b", "c", "cat"), decisions=[flagged])
    assert reason == "its decisions moved: on class 3 (cat) of slice night accuracy fell from 100.0 % to 10.0 %"


def test_all_hypotheses_about_decisions_are_accounted_for():
    """Holm: the same churn is flagged alone and not among twenty."""
    loud = measured("churn", 150, floor=CHURNS)
    assert judged(loud) == [Verdict.DRIFT]
    quiet = [measured("churn", 50, floor=CHURNS) for _ in range(19)]
    assert judged(loud, *quiet)[0] is Verdict.INCONCLUSIVE
    alone = judge_decisions(POLICY, [loud])[0].adjusted
    assert judge_decisions(POLICY, [loud, *quiet])[0].adjusted == pytest.approx(20 * alone)


def test_every_row_is_plain_and_says_what_moved():
    (found,) = judge_decisions(POLICY, [measured("accuracy_loss", 105, 5, floor=LOSSES)])
    row = found.row()
    assert row["verdict"] == "DRIFT"
    assert (row["reference"], row["candidate"]) == pytest.approx((251 / 256, 151 / 256))
    assert row["words"] == "accuracy fell from 98.0 % to 59.0 %"
    assert row["floor_values"] == list(LOSSES)
    assert all(isinstance(each, str | float | int | list | None) for each in row.values())


def test_an_open_decision_has_a_next_step():
    found = judge_decisions(POLICY, [measured("churn", 100, floor=CHURNS)])
    assert "which predictions changed" in next_step(Verdict.INCONCLUSIVE, [], "retrain", False, 0.01, found)
    assert next_step(Verdict.DRIFT, [], "retrain", False, 0.01, found) == ""
