"""The e-process against its definition, its bound by simulation, and its state on paper."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from attrail_explainers.errors import ConfigError, RecordError
from attrail_monitoring.inference.e_process import BETS, EProcess

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "simulations"))

from audit_years import ALPHA, beta, delays, false_alarms, fixed_size, seasons, two_points

audits = arrays.arrays(np.float64, st.integers(0, 30), elements=st.floats(0, 2))
limits = st.floats(0.01, 2)


@given(audits, limits)
def test_the_value_is_the_mean_wealth_of_the_gamblers(distances, limit):
    shares = [(number + 0.5) / BETS for number in range(BETS)]
    wealths = [math.prod(1 + share / limit * (distance - limit) for distance in distances) for share in shares]
    assert EProcess(limit).updated(distances).value == pytest.approx(sum(wealths) / BETS, rel=1e-9)


@given(audits, st.integers(0, 30), st.integers(0, 99), limits)
def test_only_the_distances_matter_not_their_order_or_audit(distances, cut, seed, limit):
    whole = EProcess(limit).updated(distances)
    shuffled = np.random.default_rng(seed).permutation(distances)
    parts = EProcess(limit).updated(shuffled[:cut]).updated(shuffled[cut:])
    assert parts.observations == whole.observations == len(distances)
    assert parts.log_value == pytest.approx(whole.log_value, abs=1e-9)
    assert parts.log_peak >= max(0, parts.log_value)


@given(audits, limits, st.floats(0, 1))
def test_larger_distances_are_more_evidence(distances, limit, more):
    assert EProcess(limit).updated(distances + more).log_value >= EProcess(limit).updated(distances).log_value - 1e-12


@given(st.integers(1, 4), limits)
def test_no_wealth_is_expected_to_grow(images, limit):
    """Every distance 0 or twice the limit, with chance one half: all equally likely outcomes have mean e-value 1."""
    outcomes = [[2 * limit * (number >> image & 1) for image in range(images)] for number in range(2**images)]
    assert np.mean([EProcess(limit).updated(outcome).value for outcome in outcomes]) == pytest.approx(1)


@pytest.mark.parametrize("draw", [beta(0.35), two_points(0.35), beta(0.35, 0.3, 2)])
def test_false_alarms_in_a_year_of_audits_stay_below_alpha(draw):
    """The full simulation, ten thousand years, is tests/simulations/audit_years.py."""
    years = 250
    assert stats.binomtest(round(false_alarms(draw, years) * years), years, ALPHA, "greater").pvalue > 1e-4


def test_audits_that_rise_and_fall_together_are_fed_as_one_observation_each():
    """Fed by images such years raise more alarms than alpha, as the class says; fed by audits they do not."""
    draw, years = seasons(0.35, 0.03), 100
    assert stats.binomtest(round(false_alarms(draw, years) * years), years, ALPHA, "greater").pvalue < 1e-4
    raised = round(false_alarms(draw, years, each_audit=True) * years)
    assert stats.binomtest(raised, years, ALPHA, "greater").pvalue > 1e-4


@pytest.mark.parametrize("shift", [0.05, 0.1])
def test_a_shift_is_seen_no_later_than_with_1_3_times_the_fixed_size(shift):
    found = delays(shift, 200, 1500)
    assert max(np.median(found), found.mean()) <= 1.3 * fixed_size(shift)


def test_an_alarm_stays_raised_until_the_restart():
    raised = EProcess(0.3).updated([0.6] * 20)
    assert raised.alarm(0.05)
    calmed = raised.updated([0.1] * 100)
    assert calmed.value < 1 < raised.value == calmed.peak
    assert calmed.alarm(0.05)
    anew = calmed.restarted("new champion", limit=0.4)
    assert (anew.value, anew.peak, anew.observations, anew.limit) == (1, 1, 0, 0.4)
    assert not anew.alarm(0.05)
    (ended,) = anew.restarts
    assert (ended.reason, ended.observations) == ("new champion", 120)
    assert (ended.log_value, ended.log_peak) == (calmed.log_value, raised.log_value)
    assert [each.reason for each in anew.restarted("once more").restarts] == ["new champion", "once more"]


@given(audits, limits, st.booleans())
def test_the_state_survives_json_to_the_last_bit(distances, limit, restart):
    process = EProcess(limit).updated(distances)
    process = process.restarted("because").updated(distances) if restart else process
    document = json.loads(json.dumps(process.document(), allow_nan=False))
    assert EProcess.from_document(document) == process
    assert document["format"] == "attrail.e-process/1"


def test_overwhelming_evidence_stays_finite():
    process = EProcess(0.01).updated([2.0] * 1000)
    assert math.isfinite(process.value)
    assert EProcess.from_document(json.loads(json.dumps(process.document(), allow_nan=False))) == process


@pytest.mark.parametrize(
    "damage",
    [
        {"format": "attrail.e-process/9"},
        {"log_wealths": [0.0]},
        {"log_wealths": [0.0] * 31 + ["x"]},
        {"log_wealths": [0.0] * 31 + [math.nan]},
        {"limit": -1},
        {"extra": 1},
        {"restarts": [{"reason": "?"}]},
    ],
)
def test_a_damaged_state_is_refused(damage):
    with pytest.raises(RecordError, match=r"format attrail\.e-process/1|is damaged"):
        EProcess.from_document(EProcess(0.3).document() | damage)


@pytest.mark.parametrize("wrong", [math.nan, -0.1, math.inf])
def test_undefined_distances_are_refused(wrong):
    with pytest.raises(ConfigError, match="replace those of undefined maps"):
        EProcess(0.3).updated([0.2, wrong])


@pytest.mark.parametrize("limit", [0, -0.1, math.nan, math.inf])
def test_a_limit_to_bet_against_is_needed(limit):
    with pytest.raises(ConfigError, match="limit above 0"):
        EProcess(limit)
    with pytest.raises(ConfigError, match="alpha between 0 and 1"):
        EProcess(0.3).alarm(limit)
