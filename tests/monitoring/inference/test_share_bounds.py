"""Share bounds: one more model passes them as seldom as they say, whatever strategies trainings have."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrail_monitoring.inference.share_bounds import share_bounds

TAIL = 0.05


def angle(share, images):
    return np.arcsin(np.sqrt((share * images + 3 / 8) / (images + 3 / 4)))


def test_the_bounds_are_those_of_the_largest_excess():
    """By hand: three models, two clusters, many images."""
    shares, images = np.array([[0.30, 0.70], [0.40, 0.60], [0.35, 0.65]]), 10**6
    angles = angle(shares, images)
    above = [angles[0, 1] - angles[2, 1], angles[1, 0] - angles[2, 0], -min(angles[2] - angles[[0, 1], [0, 1]])]
    above[2] = max(angles[2, 0] - angles[1, 0], angles[2, 1] - angles[0, 1])
    reach = np.mean(above) + stats.t.isf(TAIL, 2) * np.std(above, ddof=1) * np.sqrt(4 / 3)
    _, high = share_bounds(shares, images, TAIL)
    assert angle(high, images) == pytest.approx(angles.max(axis=0) + reach, abs=1e-6)


def simulated(draw, runs, images=500):
    """How often a sixth model of the kind that ``draw`` makes lies above, and below, its bounds anywhere."""
    above = below = 0
    for seed in range(runs):
        *models, candidate = draw(np.random.default_rng(seed))
        low, high = share_bounds(np.array(models), images, TAIL)
        above += bool((candidate > high).any())
        below += bool((candidate < low).any())
    return above / runs, below / runs


def common(generator):
    """Seven models of strategies that all share, which vary from training to training."""
    return [generator.dirichlet(40 * np.array([8, 4, 2, 1, 1, 0.5])) for _ in range(7)]


def own(generator):
    """Seven models, each with a strategy of its own besides: bounds of single clusters would call all of it new."""
    shares = np.zeros((7, 10))
    for row in range(7):
        mine = generator.uniform(0.05, 0.4)
        shares[row, :3] = (1 - mine) * generator.dirichlet([40, 30, 20])
        shares[row, 3 + row] = mine
    return generator.permutation(shares)


@pytest.mark.parametrize("draw", [common, own])
def test_one_more_model_passes_them_as_seldom_as_they_say(draw):
    for rate in simulated(draw, runs := 600):
        assert rate <= TAIL + 3 * np.sqrt(TAIL * (1 - TAIL) / runs)


@pytest.mark.parametrize("images", [96, 512, 10_000])
def test_where_all_models_agree_one_image_is_no_news_and_a_twentieth_of_them_is(images):
    shares = np.tile([0.6, 0.4, 0.0], (6, 1))
    _, high = share_bounds(shares, images, TAIL)
    assert 1 / images < high[2] < max(0.05, 8 / images)


@given(st.integers(2, 9), st.integers(1, 16), st.integers(1, 2000), st.integers(0, 10**6))
def test_no_share_that_was_seen_lies_beyond(models, clusters, images, seed):
    shares = np.random.default_rng(seed).dirichlet(np.full(clusters, 0.3), models)
    low, high = share_bounds(shares, images, TAIL)
    assert (low <= shares.min(axis=0) + 1e-9).all()
    assert (high >= shares.max(axis=0) - 1e-9).all()
    assert (low >= 0).all()
    assert (high <= 1).all()
    smaller = share_bounds(shares, images, TAIL / 10)
    assert (smaller[0] <= low + 1e-12).all()
    assert (smaller[1] >= high - 1e-12).all()
