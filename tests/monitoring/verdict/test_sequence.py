"""A sequence: audits that count together."""

import json
from dataclasses import replace

import numpy as np
import pytest

from attrail_explainers.errors import ConfigError, RecordError
from attrail_monitoring.comparison import judge
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.inference.e_process import EProcess
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.judgement import judge_measurements
from attrail_monitoring.verdict.measurement import image_distances
from attrail_monitoring.verdict.policy import Policy
from attrail_monitoring.verdict.sequence import Sequence, advance, with_alarm

SETTINGS = Settings(grid=4, resamples=50)
POLICY = Policy(margins={"rank_distance": 0.3}, settings=SETTINGS)
ALL = np.ones(40, dtype=bool)


def pictures(seed):
    return np.random.default_rng(seed).normal(size=(40, 6, 6)).astype(np.float32)


def pair(maps, seed, apart):
    """Two versions' maps, ``apart`` 0 the same and 1 unrelated."""
    reference = pictures(seed)
    return maps(reference), maps((1 - apart) * reference + apart * pictures(seed + 1000), "net/2")


@pytest.fixture
def finding(measurement):
    (found,) = judge_measurements(POLICY, [measurement(value=0.2)])
    return found


def steps(maps, finding, apart, count, before=None):
    for seed in range(count):
        before = advance(before, "nightly", pair(maps, seed, apart), ALL, finding, SETTINGS)
    return before


def test_evidence_grows_over_audits_that_are_beyond_the_limit_and_never_over_those_within(maps, finding):
    assert steps(maps, finding, 0.9, 2).alarm(0.05)
    within = steps(maps, finding, 0.1, 6)
    assert not within.alarm(0.05)
    assert within.process.observations == 6 * 40


def test_the_same_maps_never_count_twice(maps, finding):
    once = steps(maps, finding, 0.5, 1)
    again = advance(once, "nightly", pair(maps, 0, 0.5), ALL, finding, SETTINGS)
    assert again.process == once.process
    assert again.fed == once.fed


def test_only_the_findings_images_count_and_one_without_a_map_counts_as_moved_most(maps, finding):
    reference, candidate = pair(maps, 3, 0.2)
    holed = candidate.values.copy()
    holed[0] = np.nan
    counted = np.arange(40) < 10
    found = advance(None, "nightly", (reference, maps(holed, "net/2")), counted, finding, SETTINGS)
    distances = image_distances(reference, candidate, SETTINGS)[:10]
    distances[0] = 2.0
    assert found.process == EProcess(0.3).updated(distances)


def test_a_new_limit_or_a_wish_restarts_and_is_kept(maps, finding, measurement):
    before = steps(maps, finding, 0.9, 2)
    other = judge_measurements(Policy(margins={"rank_distance": 0.5}, settings=SETTINGS), [measurement(value=0.2)])[0]
    after = advance(before, "nightly", pair(maps, 7, 0.1), ALL, other, SETTINGS)
    assert "limit changed from 0.3 to 0.5" in after.process.restarts[-1].reason
    wished = advance(before, "nightly", pair(maps, 7, 0.1), ALL, finding, SETTINGS, restart="new champion")
    assert wished.process.restarts[-1].reason == "new champion"
    assert not wished.alarm(0.05)


def test_the_state_survives_json_to_the_last_bit(maps, finding):
    state = steps(maps, finding, 0.4, 3)
    assert Sequence.from_document(json.loads(json.dumps(state.document()))) == state


@pytest.mark.parametrize("damage", [{"format": "other"}, {"process": {}}])
def test_a_damaged_state_is_refused(maps, finding, damage):
    document = steps(maps, finding, 0.4, 1).document() | damage
    with pytest.raises(RecordError):
        Sequence.from_document(document)


def test_without_a_limit_there_is_nothing_to_bet_against(maps, measurement):
    (loose,) = judge_measurements(Policy(margins={}, settings=SETTINGS), [measurement(value=0.2)])
    with pytest.raises(ConfigError, match="no limit to bet against"):
        advance(None, "nightly", pair(maps, 0, 0.1), ALL, loose, SETTINGS)


def test_an_alarm_makes_the_verdict_drift_and_nothing_else_changes_it(maps, finding, measurement):
    report = judge([measurement(value=0.2)], POLICY)
    assert report.verdict is Verdict.PASS
    asked = replace(POLICY, margins_decide=True)
    alarmed = with_alarm(report, steps(maps, finding, 0.9, 2), asked)
    assert alarmed.verdict is Verdict.DRIFT
    assert "alarm at 1 / alpha = 20" in alarmed.reason
    assert with_alarm(report, steps(maps, finding, 0.1, 2), asked) == report
    alone = with_alarm(report, steps(maps, finding, 0.9, 2), POLICY)
    assert alone.verdict is Verdict.INCONCLUSIVE
    assert alone.reason.endswith("the limit comes from a margin, with no noise floor: never decisive")


def test_an_alarm_over_surrogates_never_decides(maps, finding, measurement):
    surrogates = NoiseFloor((0.25, 0.26, 0.27, 0.28), ("a", "b", "c", "d"), "surrogates")
    report = judge([replace(measurement(value=0.2), floor=surrogates)], POLICY)
    alarmed = with_alarm(report, steps(maps, finding, 0.9, 2), POLICY)
    assert alarmed.verdict is Verdict.INCONCLUSIVE
    assert "alarm at 1 / alpha = 20" in alarmed.reason
    assert alarmed.reason.endswith("surrogates, which are no retrains: never decisive")
