"""Instruments: what an explainer's own behaviour says of its measurements."""

import numpy as np
import pytest

from attrail_monitoring.floor.sanity import ExplainerSanity, sanity_of
from attrail_monitoring.maps.pair import Pair, Side
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.maps.version_maps import VersionMaps

GRID = 6
STATISTICS = [name for name in statistic_names() if name != "outside_shift"]


def noise(seed, count=30, side=GRID):
    return np.random.default_rng(seed).normal(size=(count, side, side)).astype(np.float32)


def distance(name, first, second):
    statistic = make_statistic(name)
    return float(statistic.value(statistic.terms(first.astype(float), second.astype(float)).mean(axis=0)))


@pytest.fixture
def side(maps):
    def make(values, model="net/1", regions=None, **changes):
        version = VersionMaps((maps(values, model, **changes),), regions={} if regions is None else {"all": regions})
        return Side.of(version, ("all", "gradcam"), GRID)

    return make


def test_repeat_is_what_new_draws_change(side):
    reference, retrain, again, other = (side(noise(seed), f"net/{seed}") for seed in range(4))
    found = sanity_of(reference, None, retrain, (again, other)).repeat
    assert sorted(found) == STATISTICS
    for name in STATISTICS:
        first = distance(name, noise(0), noise(1))
        second = distance(name, noise(2), noise(3))
        assert found[name] == pytest.approx(abs(first - second), rel=1e-6)


def test_explainers_that_draw_nothing_repeat_themselves(side):
    found = sanity_of(side(noise(0)), None, side(noise(1), "net/2"))
    assert found.repeat == dict.fromkeys(STATISTICS, 0.0)


def test_without_a_retrain_nothing_is_known_of_repeats(side):
    assert sanity_of(side(noise(0)), None).repeat == {}


def test_the_random_head_is_as_far_as_its_maps(side):
    found = sanity_of(side(noise(0)), side(noise(1), "net/1 randomised"))
    assert found.random_head == pytest.approx({name: distance(name, noise(0), noise(1)) for name in STATISTICS})
    assert sanity_of(side(noise(0)), None).random_head == {}


def test_unrelated_maps_are_those_of_the_next_image(side):
    """A ceiling for per-image distances; the mean map stays the same, so it says nothing of a coherent shift."""
    found = sanity_of(side(noise(0)), None).unrelated
    for name in STATISTICS:
        assert found[name] == pytest.approx(distance(name, noise(0), np.roll(noise(0), 1, axis=0)), abs=1e-9)
    assert found["coherent_shift"] == pytest.approx(0, abs=1e-9)
    assert found["rank_distance"] > 0.8


def test_missing_maps_are_left_out_of_every_check(side):
    values, kept = noise(0), [row for row in range(30) if row not in (3, 4)]
    values[3] = np.nan
    found = sanity_of(side(values), side(noise(1), "net/1 randomised"))
    for name in STATISTICS:
        rolled = np.roll(noise(0), 1, axis=0)
        assert found.unrelated[name] == pytest.approx(distance(name, noise(0)[kept], rolled[kept]), abs=1e-9)
    assert np.isfinite(list(found.random_head.values())).all()
    nothing = sanity_of(side(np.full((30, 6, 6), np.nan)), side(noise(1), "net/1 randomised"))
    assert (nothing.random_head, nothing.unrelated, nothing.diagnostics) == ({}, {}, {})


def test_regions_are_inspected_where_there_are_some(side):
    regions = np.random.default_rng(9).random((30, GRID, GRID)) < 0.5
    found = sanity_of(side(noise(0), regions=regions), side(noise(1), "net/1 randomised"))
    assert set(found.random_head) == set(found.unrelated) == set(statistic_names())
    pair = Pair(side(noise(0), regions=regions), side(noise(1), "net/2"))
    statistic = make_statistic("outside_shift")
    expected = float(statistic.value(pair.terms(statistic).mean(axis=0)))
    assert found.random_head["outside_shift"] == pytest.approx(expected)


def test_diagnostics_are_medians_of_what_the_explainer_reports(side):
    diagnostics = {
        "surrogate_r2": np.array([0.1, 0.2, np.nan, 0.9] + [0.2] * 26),
        "emulator_r2": np.full(30, np.nan),
        "evaluations": np.full(30, 96.0),
    }
    found = sanity_of(side(noise(0), diagnostics=diagnostics), None).diagnostics
    assert found == {"surrogate_r2": 0.2}


def test_the_ceiling_is_the_further_of_the_two():
    found = ExplainerSanity(random_head={"rank_distance": 0.9, "coherent_shift": 0.3}, unrelated={"rank_distance": 1.0})
    assert found.ceiling("rank_distance") == 1.0
    assert found.ceiling("coherent_shift") == 0.3
    assert found.ceiling("top_distance") is None


def test_when_new_draws_give_no_map_nothing_is_known_of_repeats(side):
    again = (side(noise(2), "net/3"), side(np.full((30, GRID, GRID), np.nan), "net/4"))
    assert sanity_of(side(noise(0)), None, side(noise(1), "net/2"), again).repeat == {}
