"""Plans against simulation, the normal approximation and their own inverses."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrail_explainers.errors import ConfigError
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.inference.power import (
    detectable_effect,
    images_needed,
    images_power,
    retrains_needed,
    retrains_power,
)

alphas = st.floats(0.001, 0.2)
powers = st.floats(0.3, 0.99)
effects = st.floats(0.03, 3)


@pytest.mark.parametrize("effect", [0.1, 0.2, 0.3, 0.5])
def test_images_needed_is_the_normal_approximation_and_one_or_two(effect):
    """That the spread is estimated too costs about z(alpha)^2 / 2 images: 1.35 at 5 %."""
    approximate = math.ceil(((stats.norm.isf(0.05) + stats.norm.isf(0.1)) / effect) ** 2)
    assert 1 <= images_needed(effect, 0.05, 0.9) - approximate <= 2


@given(effects, alphas, powers)
def test_one_image_fewer_is_too_few(effect, alpha, power):
    found = images_needed(effect, alpha, power)
    assert images_power(found, effect, alpha) >= power
    assert found == 2 or images_power(found - 1, effect, alpha) < power


@given(st.integers(3, 3000), alphas, powers)
def test_the_detectable_effect_is_seen_with_its_power(images, alpha, power):
    effect = detectable_effect(images, alpha, power)
    assert images_power(images, effect, alpha) == pytest.approx(power, abs=1e-6)


@given(effects, alphas, powers, st.floats(0.01, 100))
def test_units_do_not_matter(effect, alpha, power, sd):
    assert abs(images_needed(effect * sd, alpha, power, sd) - images_needed(effect, alpha, power)) <= 1  # by rounding
    assert detectable_effect(50, alpha, power, sd) == pytest.approx(detectable_effect(50, alpha, power) * sd)


@pytest.mark.parametrize(("images", "effect"), [(12, 0.5), (60, 0.4)])
def test_the_power_of_images_is_what_happens(images, effect):
    """scipy's paired t-test on simulated differences; 4 binomial standard errors."""
    generator, runs = np.random.default_rng(images), 6000
    draws = generator.normal(effect, 1, (runs, images))
    seen = np.mean(stats.ttest_1samp(draws, 0, axis=1, alternative="greater").pvalue <= 0.05)
    power = images_power(images, effect, 0.05)
    assert seen == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / runs))


@pytest.mark.parametrize(("retrains", "shift"), [(4, 3), (5, 3), (9, 2)])
def test_the_power_of_retrains_is_what_the_floor_does(retrains, shift):
    """Lognormal distances, their SD 0.2 on the log scale, the candidate ``shift`` of those further out."""
    generator, runs = np.random.default_rng(retrains), 4000
    logs = generator.normal(-1, 0.2, (runs, retrains + 1))
    logs[:, -1] += 0.2 * shift
    seen = np.mean([one[-1] > NoiseFloor(tuple(one[:-1])).bound(0.05) for one in np.exp(logs)])
    power = retrains_power(retrains, shift, 0.05)
    assert seen == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / runs))


@given(st.integers(2, 60), st.floats(0, 8), alphas)
def test_more_retrains_and_larger_shifts_are_seen_more_often(retrains, shift, alpha):
    power = retrains_power(retrains, shift, alpha)
    assert retrains_power(retrains + 1, shift, alpha) >= power - 1e-9
    assert retrains_power(retrains, shift + 1, alpha) >= power - 1e-9
    assert retrains_power(retrains, 0, alpha) == pytest.approx(alpha)


@given(st.floats(3.5, 10), alphas, st.floats(0.3, 0.95))
def test_one_retrain_fewer_is_too_few(shift, alpha, power):
    best = stats.norm.sf(stats.norm.isf(alpha) - shift)
    if best > power + 1e-3:
        found = retrains_needed(shift, alpha, power)
        assert retrains_power(found, shift, alpha) >= power
        assert found == 4 or retrains_power(found - 1, shift, alpha) < power
    elif best < power:
        with pytest.raises(ConfigError, match="by any number of retrains"):
            retrains_needed(shift, alpha, power)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: images_needed(0, 0.05, 0.9), "effect above 0"),
        (lambda: images_needed(1e-5, 0.05, 0.9), "needs more than 10000000 images"),
        (lambda: images_needed(0.1, 0, 0.9), "alpha between 0 and 1"),
        (lambda: images_needed(0.1, 0.05, 1), "power between 0 and 1"),
        (lambda: images_power(1, 0.1, 0.05), "at least 2 images"),
        (lambda: images_power(10, 0.1, 0.05, 0), "SD above 0"),
        (lambda: detectable_effect(10, 0.2, 0.1), "must exceed alpha"),
        (lambda: retrains_power(1, 3, 0.05), "one has no spread"),
        (lambda: retrains_needed(2, 0.05, 0.9), "seen with power 0.64 by any number"),
    ],
)
def test_impossible_plans_say_why(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
