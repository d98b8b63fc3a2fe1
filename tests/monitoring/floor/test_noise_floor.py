"""The noise floor's bound against its closed form, its p-value against the bound, and both against simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrail_monitoring.floor.noise_floor import TIERS, NoiseFloor
from attrail_monitoring.inference.shared_spread import SharedSpread

distances = st.lists(st.floats(1e-3, 2.0), min_size=4, max_size=60).map(tuple)
levels = st.floats(1e-4, 0.5)


def closed_form(distances, alpha):
    """Hahn & Meeker: mean + t(K-1; 1-alpha) s sqrt(1 + 1/K), on logs."""
    logs = [math.log(distance) for distance in distances]
    count = len(logs)
    mean = sum(logs) / count
    deviation = math.sqrt(sum((each - mean) ** 2 for each in logs) / (count - 1))
    return math.exp(mean + stats.t(count - 1).isf(alpha) * deviation * math.sqrt(1 + 1 / count))


@given(distances, levels)
def test_bound_equals_the_closed_form_or_the_furthest_model(distances, alpha):
    expected = max(closed_form(distances, alpha), *distances)
    assert NoiseFloor(distances).bound(alpha) == pytest.approx(expected, rel=1e-6)


@given(distances, levels, st.floats(0.01, 2), st.floats(0.5, 50))
def test_a_shared_spread_pools_variances(distances, alpha, variance, freedom):
    """Smyth 2004: freedoms add up, variances are their weighted mean; bound and p-value stay each other's inverse."""
    logs, count = np.log(distances), len(distances)
    pooled = (freedom * variance + (count - 1) * logs.var(ddof=1)) / (freedom + count - 1)
    reach = stats.t(freedom + count - 1).isf(alpha) * math.sqrt(pooled * (1 + 1 / count))
    floor = NoiseFloor(distances, shared=SharedSpread(variance, freedom))
    bound = floor.bound(alpha)
    assert bound == pytest.approx(max(math.exp(logs.mean() + reach), *distances), rel=1e-6)
    if bound > max(distances):
        assert floor.p_value(bound) == pytest.approx(alpha, rel=1e-5)


@given(distances, levels)
def test_p_value_is_the_inverse_of_the_bound(distances, alpha):
    floor = NoiseFloor(distances)
    bound = floor.bound(alpha)
    if np.log(distances).std() > 1e-6 and bound > max(distances):
        assert floor.p_value(bound) == pytest.approx(alpha, rel=1e-5)


@given(distances, levels, st.floats(1e-3, 4))
def test_p_value_lies_below_alpha_exactly_beyond_the_bound(distances, alpha, value):
    """Exactly where the rank test could not reject within the distances seen, and never the other way round."""
    floor = NoiseFloor(distances)
    bound = floor.bound(alpha)
    if value > bound * (1 + 1e-9):
        assert floor.p_value(value) < alpha
    elif value < bound * (1 - 1e-9) and alpha <= 2 / (1 + len(distances)):
        assert floor.p_value(value) >= alpha


@given(distances, levels)
def test_no_level_flags_what_a_model_reached(distances, alpha):
    assert NoiseFloor(distances).bound(alpha) >= max(distances)


@given(distances, st.floats(1e-3, 2))
def test_p_value_is_at_least_the_exact_rank_probability(distances, value):
    """Among K + 1 exchangeable distances each is as likely to be the furthest."""
    floor, reached = NoiseFloor(distances), sum(each >= value for each in distances)
    if reached:
        assert floor.p_value(value) >= (1 + reached) / (1 + len(distances))
    assert 0 <= floor.p_value(value) <= 1


@given(distances, st.floats(1e-3, 2), st.floats(1e-3, 2))
def test_p_value_falls_with_the_distance(distances, first, second):
    near, far = sorted([first, second])
    assert NoiseFloor(distances).p_value(near) >= NoiseFloor(distances).p_value(far)


@given(distances, levels, levels)
def test_a_stricter_level_has_a_higher_bound(distances, first, second):
    strict, loose = sorted([first, second])
    assert NoiseFloor(distances).bound(strict) >= NoiseFloor(distances).bound(loose)


@given(distances, levels)
def test_order_of_retrains_does_not_matter(distances, alpha):
    assert NoiseFloor(distances).bound(alpha) == pytest.approx(NoiseFloor(distances[::-1]).bound(alpha), rel=1e-9)


@pytest.mark.parametrize(("retrains", "alpha"), [(4, 0.05), (5, 0.0125), (19, 0.01)])
def test_one_more_retrain_exceeds_the_bound_with_probability_alpha(retrains, alpha):
    """Simulated with lognormal distances; 4 binomial standard errors. Without sqrt(1 + 1/K) or with a normal
    quantile the frequency lies outside."""
    generator, runs = np.random.default_rng(retrains), 12_000
    draws = np.exp(generator.normal(-1, 0.3, size=(runs, retrains + 1)))
    exceeded = sum(one[-1] > NoiseFloor(tuple(one[:-1])).bound(alpha) for one in draws) / runs
    assert abs(exceeded - alpha) < 4 * math.sqrt(alpha * (1 - alpha) / runs)


def test_two_modes_do_not_break_the_bound():
    """Every fifth training ends in another mode, four times as far: logs are far from normal. The t-bound alone is
    exceeded more often than alpha, because the spread of 19 models hides how near the far mode is."""
    generator, runs, alpha = np.random.default_rng(0), 4_000, 0.05
    far = generator.random((runs, 20)) < 0.2
    draws = np.exp(generator.normal(-1.5, 0.05, (runs, 20)) + far * math.log(4))
    allowed = alpha + 4 * math.sqrt(alpha * (1 - alpha) / runs)
    assert np.mean([one[-1] > closed_form(one[:-1], alpha) for one in draws]) > allowed
    assert np.mean([one[-1] > NoiseFloor(tuple(one[:-1])).bound(alpha) for one in draws]) <= allowed


@pytest.mark.parametrize(
    ("count", "source", "tier"),
    [
        (0, "retrains", "0"),
        (3, "retrains", "0"),
        (4, "retrains", "B"),
        (18, "retrains", "B"),
        (19, "retrains", "A"),
        (40, "retrains", "A"),
        (3, "history", "0"),
        (4, "history", "C"),
        (40, "history", "C"),
        (3, "surrogates", "0"),
        (4, "surrogates", "D"),
        (40, "surrogates", "D"),
        (4, "repeats", "B"),
    ],
)
def test_tiers(count, source, tier):
    floor = NoiseFloor(tuple(np.linspace(0.1, 0.2, count)), source=source)
    assert floor.tier == tier
    assert tier in TIERS
    assert (floor.bound(0.05) is None) is (tier == "0")
    assert (floor.p_value(0.15) is None) is (tier == "0")


def test_the_mean_is_the_unit():
    assert NoiseFloor((0.1, 0.2, 0.6)).mean == pytest.approx(0.3)
    assert NoiseFloor().mean is None


@pytest.mark.parametrize("same", [0.0, 0.3])
def test_equal_retrains_have_a_bound(same):
    """Deterministic training: the floor is what the retrains gave, and nothing is divided by zero."""
    floor = NoiseFloor((same,) * 5)
    assert floor.bound(0.01) == pytest.approx(same, abs=1e-6)
    assert floor.p_value(same + 0.01) < 1e-6
    assert floor.p_value(same) == 1


def test_tiny_levels_keep_their_precision():
    floor = NoiseFloor(tuple(np.linspace(0.1, 0.2, 20)))
    assert floor.p_value(floor.bound(1e-14)) == pytest.approx(1e-14, rel=1e-6, abs=0)


def test_the_bound_is_finite_at_any_level():
    assert np.isfinite(NoiseFloor((1e-9, 1e-9, 1e-9, 1.0)).bound(1e-12))


def test_what_is_detectable_exceeds_the_bound_as_often_as_said_where_the_spread_is_known():
    """The zoo's spread, worth many models, makes far less of a move visible than five models alone do."""
    draws, sd, alpha, power = np.random.default_rng(0), 0.3, 0.01, 0.9
    shared, seen, needed = SharedSpread(sd**2, 1e6), [], []
    for _ in range(3000):
        floor = NoiseFloor(tuple(np.exp(draws.normal(-2, sd, 5))), shared=shared)
        needed.append(math.log(floor.detectable(alpha, power)) - np.log(floor.distances).mean())
        candidate = math.exp(draws.normal(-2 + needed[-1], sd))
        seen.append(candidate > floor.bound(alpha))
    assert np.mean(seen) == pytest.approx(power, abs=0.02)
    as_scattered = tuple(np.exp(sd * np.array([-1.26, -0.63, 0, 0.63, 1.26])))
    alone, told = NoiseFloor(as_scattered), NoiseFloor(as_scattered, shared=shared)
    assert alone.detectable(alpha, power) > math.exp(sd) * told.detectable(alpha, power)
    assert NoiseFloor(floor.distances[:3]).detectable(alpha, power) is None
