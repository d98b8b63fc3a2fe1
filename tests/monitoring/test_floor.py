"""The noise floor's bound against its closed form, its inverse and a simulation."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrail_monitoring.floor import NoiseFloor

distances = st.lists(st.floats(1e-3, 2.0), min_size=4, max_size=25).map(tuple)
levels = st.floats(1e-4, 0.5)


def closed_form(distances, alpha):
    """Hahn & Meeker: mean + t(K-1; 1-alpha) s sqrt(1 + 1/K), on logs."""
    logs = [math.log(distance) for distance in distances]
    count = len(logs)
    mean = sum(logs) / count
    deviation = math.sqrt(sum((each - mean) ** 2 for each in logs) / (count - 1))
    return math.exp(mean + stats.t(count - 1).isf(alpha) * deviation * math.sqrt(1 + 1 / count))


@given(distances, levels)
def test_bound_equals_the_closed_form(distances, alpha):
    expected = closed_form(distances, alpha)
    assert NoiseFloor(distances).bound(alpha) == pytest.approx(expected, rel=1e-6)


@given(distances, levels)
def test_p_value_is_the_inverse_of_the_bound(distances, alpha):
    floor = NoiseFloor(distances)
    spread = np.log(distances).std()
    if spread > 1e-6:
        assert floor.p_value(floor.bound(alpha)) == pytest.approx(alpha, rel=1e-5)


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


@pytest.mark.parametrize(("retrains", "alpha"), [(4, 0.05), (5, 0.0125), (19, 0.05)])
def test_one_more_retrain_exceeds_the_bound_with_probability_alpha(retrains, alpha):
    """Simulated with lognormal distances; 4 binomial standard errors. Without sqrt(1 + 1/K) or with a normal
    quantile the frequency lies outside."""
    generator, runs = np.random.default_rng(retrains), 12_000
    draws = np.exp(generator.normal(-1, 0.3, size=(runs, retrains + 1)))
    exceeded = sum(one[-1] > NoiseFloor(tuple(one[:-1])).bound(alpha) for one in draws) / runs
    assert abs(exceeded - alpha) < 4 * math.sqrt(alpha * (1 - alpha) / runs)


@pytest.mark.parametrize(("count", "tier"), [(0, "0"), (3, "0"), (4, "B"), (18, "B"), (19, "A"), (40, "A")])
def test_tiers(count, tier):
    floor = NoiseFloor(tuple(np.linspace(0.1, 0.2, count)))
    assert floor.tier == tier
    assert (floor.bound(0.05) is None) is (tier == "0")
    assert (floor.p_value(0.15) is None) is (tier == "0")


@pytest.mark.parametrize("same", [0.0, 0.3])
def test_equal_retrains_have_a_bound(same):
    """Deterministic training: the floor is what the retrains gave, and nothing is divided by zero."""
    floor = NoiseFloor((same,) * 5)
    assert floor.bound(0.01) == pytest.approx(same, abs=1e-6)
    assert floor.p_value(same + 0.01) < 1e-6


def test_tiny_levels_keep_their_precision():
    floor = NoiseFloor(tuple(np.linspace(0.1, 0.2, 20)))
    assert floor.p_value(floor.bound(1e-14)) == pytest.approx(1e-14, rel=1e-6, abs=0)


def test_the_bound_is_finite_at_any_level():
    assert np.isfinite(NoiseFloor((1e-9, 1e-9, 1e-9, 1.0)).bound(1e-12))
