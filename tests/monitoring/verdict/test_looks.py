"""Looks: alpha is spent and never more than there is; PASS is told with all of it, DRIFT with a look's part."""

import math
from dataclasses import replace

import pytest

from attrail_explainers.errors import ConfigError
from attrail_monitoring.comparison import judge
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.looks import Look, judged_at, planned_looks, spent
from attrail_monitoring.verdict.policy import Policy

POLICY = Policy(looks=(64, 128, 256), margins={"rank_distance": 0.05})
FLOOR = NoiseFloor((0.1, 0.11, 0.12, 0.1, 0.13), tuple("abcde"))


@pytest.mark.parametrize(
    ("images", "counts"),
    [(1000, (64, 128, 256, 1000)), (256, (64, 128, 256)), (129, (64, 128, 129)), (64, (64,)), (30, (30,))],
)
def test_the_last_look_sees_all_images_and_all_of_alpha_is_spent_by_then(images, counts):
    looks = planned_looks(POLICY, images)
    assert tuple(each.images for each in looks) == counts
    assert [each.number for each in looks] == list(range(1, len(counts) + 1))
    assert {each.planned for each in looks} == {len(counts)}
    assert [each.last for each in looks] == [False] * (len(counts) - 1) + [True]
    assert sum(each.alpha for each in looks) == pytest.approx(POLICY.alpha)
    assert all(each.alpha > 0 for each in looks)


def test_without_looks_there_is_one_with_all_of_alpha():
    assert planned_looks(Policy(), 300) == (Look(1, 1, 300, Policy().alpha),)


def test_alpha_is_spent_as_lan_and_demets_say():
    """Their spending function like Pocock's bounds: 0 at no image, alpha at all, alpha ln(1 + (e - 1) / 2) at half."""
    assert spent(1.0, 0.05) == pytest.approx(0.05)
    assert spent(0.5, 0.05) == pytest.approx(0.05 * math.log((math.e + 1) / 2))
    assert spent(1e-9, 0.05) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("looks", [(128, 64), (64, 64), (0, 64), (-1,), (64.5,), (True,), ("64",), "64", 64, None])
def test_looks_that_are_none_are_refused(looks):
    with pytest.raises(ConfigError, match="policy: looks must"):
        Policy(looks=looks)


@pytest.fixture
def told(measurement):
    """The verdict of a look with part of alpha on one statistic, whose distance is ``value``."""

    def make(value, look, width=0.001):
        measured = replace(measurement(value, width), floor=FLOOR)
        return judged_at(look, POLICY, lambda policy: judge([measured], policy))

    return make


FIRST, LAST = Look(1, 3, 64, 1e-4), Look(3, 3, 256, 0.02)


def test_a_small_part_of_alpha_makes_no_pass_easier(told):
    """At 1e-4 the bound lies far out: what lies beyond the bound of all of alpha must not pass within it."""
    assert FLOOR.bound(Policy().level(1)) < 0.3 < FLOOR.bound(1e-4 * 0.8)
    assert told(0.05, LAST).verdict is Verdict.PASS
    assert told(0.3, FIRST).verdict is Verdict.INCONCLUSIVE
    assert told(0.3, LAST).verdict is Verdict.DRIFT


def test_pass_takes_two_looks(told):
    first, second = (told(0.05, Look(number, 3, 64 * number, 0.02)) for number in (1, 2))
    assert (first.verdict, second.verdict) == (Verdict.INCONCLUSIVE, Verdict.PASS)
    assert first.reason.endswith("; PASS takes a second look")
    assert told(0.05, Look(1, 1, 64, 0.05)).verdict is Verdict.PASS


def test_what_holds_with_all_of_alpha_alone_says_what_this_look_may_spend(told):
    found = told(0.3, FIRST)
    assert found.reason.endswith("that holds at alpha = 0.05, of which look 1 of 3 may spend 0.0001")
    assert found.policy_digest == POLICY.digest


def test_a_flag_names_the_policy_that_was_posted(told):
    found = told(1.5, LAST)
    assert found.verdict is Verdict.DRIFT
    assert found.policy_digest == POLICY.digest
    assert found.level == pytest.approx(replace(POLICY, alpha=LAST.alpha).level(1))
