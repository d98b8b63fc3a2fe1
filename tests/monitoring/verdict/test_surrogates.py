"""Verdicts over surrogates of a kind that the zoo measures: scaled by its factor, decisive only where it may be."""

from dataclasses import replace

import numpy as np
import pytest

from attrail_monitoring.comparison import compare, judge
from attrail_monitoring.floor import factors
from attrail_monitoring.floor.factors import Factor
from attrail_monitoring.floor.noise_floor import SURROGATES, NoiseFloor, models_of
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.verdict.combination import combine
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.judged import judged_rows
from attrail_monitoring.verdict.policy import Policy

DISTANCES = (0.1, 0.12, 0.11, 0.1, 0.13)
NAMES = tuple(f"net/{number}" for number in range(2, 7))
FURTHER = Factor(log_mean=0.7, log_sd=0.2, freedom=20, lowest=1.4, highest=2.9)  # honest versions move twice as far
JOINT = replace(FURTHER, log_sd=0.1)
NEARER = replace(FURTHER, log_mean=-0.7, lowest=0.3, highest=0.7)  # or half as far, as beside narrow retrains
POLICY = Policy(margins={"rank_distance": 0.02})
PRIMARY = [name for name in statistic_names() if make_statistic(name).primary]


def floor(kind, factor=None, joint=None, decides=True):
    scaled = [each and replace(each, decides=decides) for each in (factor, joint)]
    return NoiseFloor(DISTANCES, NAMES, kind, None, *scaled)


@pytest.fixture
def report(measurement):
    def make(value, found, policy=POLICY):
        both = [measurement(value, floor=(), explainer=name) for name in ("gradcam", "shap")]
        return judge([replace(each, floor=found) for each in both], policy)

    return make


@pytest.mark.parametrize("kind", SURROGATES)
def test_where_the_zoo_has_shown_that_they_may_they_decide_and_it_is_said(report, kind):
    known = floor(kind, FURTHER, JOINT)
    assert (known.tier, known.may_flag) == ("D", True)
    for value, verdict in ((0.21, Verdict.PASS), (0.9, Verdict.DRIFT)):
        found = report(value, known)
        assert found.verdict is verdict, found.reason
        assert f"the limits stand on {models_of(known)}, honest versions of the zoo move 2 to 2 times" in found.reason
        assert found.next_step == ""
        assert judged_rows(found)[0].limit.split()[1] == "surrogates"
    assert [each.flagged for each in found.agreements] == [True]
    assert found.agreements[0].floor.factor == replace(JOINT, decides=True)


@pytest.mark.parametrize("kind", SURROGATES)
@pytest.mark.parametrize("asked", [False, True])
def test_where_it_has_not_they_notify(report, kind, asked):
    """As far as one honest version in five moves is worth a notice; no policy makes it a verdict."""
    policy = replace(POLICY, margins_decide=asked)
    known = floor(kind, FURTHER, JOINT, decides=False)
    near, far = (report(value, known, policy) for value in (0.21, 0.9))
    assert near.verdict is far.verdict is Verdict.INCONCLUSIVE
    assert "it would pass" in near.reason
    assert near.reason.endswith("the zoo does not show that they may decide: never decisive")
    assert f"times as far as the floor's {models_of(known)}; honest versions of the zoo lie between 1.4 and 2.9" in (
        far.reason
    )
    assert far.findings[0].limit == pytest.approx(known.bound(0.2))
    assert near.next_step == "give the floor 4 retrains or more in place of the surrogates, which never decide"


def test_a_statistic_or_a_change_without_a_factor_decides_nothing(report, measurement):
    assert report(0.9, floor("dropout")).verdict is Verdict.INCONCLUSIVE
    assert "of this kind of change move was not measured" in report(0.9, floor("dropout")).reason
    known, other = floor("dropout", FURTHER, JOINT), floor("dropout")
    both = [replace(measurement(0.01), floor=known), replace(measurement(0.01, statistic="other"), floor=other)]
    found = judge(both, POLICY)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.reason.startswith("against draws of dropout it would pass")


def test_without_a_joint_factor_nothing_is_said_of_what_all_see_together(report):
    assert report(0.9, floor("dropout", FURTHER)).agreements == ()
    assert report(0.9, floor("dropout", FURTHER)).verdict is Verdict.DRIFT


def test_surrogates_that_move_further_than_honest_versions_do_not_widen_the_limit(report):
    """Narrow retrains reached 0.13, honest versions go half as far: 0.09 is more than one of them ever does."""
    known = floor("narrow-retrains", NEARER, replace(NEARER, log_sd=0.1))
    assert known.reached == pytest.approx(0.13 * np.exp(-0.7))
    assert known.bound(0.01) < max(DISTANCES)
    assert report(0.045, known).verdict is Verdict.PASS
    found = report(0.12, known)
    assert found.verdict is Verdict.DRIFT, found.reason
    assert report(0.12, floor("late-checkpoints")).verdict is Verdict.INCONCLUSIVE
    assert NoiseFloor(DISTANCES).reached == max(DISTANCES)
    assert NoiseFloor().reached == 0


def test_what_no_explainer_measures_stays_among_honest_versions_not_among_surrogates(report):
    known = floor("narrow-retrains", NEARER, replace(NEARER, log_sd=0.1))
    (passed, *_) = report(0.03, known).findings
    near, far = (report(value, known).findings[0] for value in (0.06, 0.12))  # honest versions reach 0.065, these 0.13
    unfit = [
        replace(each, unfit=True, measurement=replace(each.measurement, statistic="other"), reason="blind")
        for each in (near, far)
    ]
    told = [combine([passed, each])[0] for each in unfit]
    assert told == [Verdict.PASS, Verdict.INCONCLUSIVE]


def version(maps, values, name):
    right = np.ones(len(values), dtype=np.bool_)
    return VersionMaps((maps(values, name, targets=np.arange(len(values)) % 2),), right={"all": right})


@pytest.mark.parametrize("decides", [False, True])
def test_honest_retrains_pass_over_checkpoints_that_move_a_third_as_far(maps, monkeypatch, decides):
    """Classes and single images are not calibrated, so that checkpoints, which lie near, flag none of them."""
    facts = {name: getattr(FURTHER, name) for name in Factor.__dataclass_fields__}
    facts |= {"log_mean": float(np.log(3)), "source": "late-checkpoints", "change": "retrain", "decides": decides}
    names = [(which, each) for which in ("each", "together") for each in PRIMARY]
    rows = tuple(facts | {"explainers": which, "statistic": each} for which, each in names)
    monkeypatch.setattr(factors, "_rows", lambda: rows)
    draw, policy = np.random.default_rng(0).normal, Policy(settings=Settings(grid=4, resamples=50))
    base = draw(size=(64, 8, 8))
    near = [version(maps, base + 0.3 * draw(size=base.shape), f"checkpoint/{number}") for number in range(5)]
    honest = version(maps, base + 0.5 * draw(size=base.shape), "net/2")
    moved = version(maps, draw(size=base.shape), "net/3")
    first = version(maps, base, "net/1")
    reports = [compare(first, each, near, policy, "late-checkpoints") for each in (honest, moved)]
    told = [str(each.verdict) for each in reports]
    assert told == (["PASS", "DRIFT"] if decides else ["INCONCLUSIVE"] * 2), [each.reason for each in reports]
    assert all(each.moved == () for each in reports)
    flagged = [each for each in reports[0].findings if each.verdict is Verdict.DRIFT]
    assert flagged == []
    retrains = compare(first, honest, near, policy)
    assert retrains.verdict is Verdict.DRIFT  # what happens to an honest one where nobody says what the floor is
