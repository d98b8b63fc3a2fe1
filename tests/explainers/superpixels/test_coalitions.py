"""Coalitions: what is drawn, how often, and what each row stands for."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from attrail_explainers.superpixels.coalitions import draw_coalitions, log_choose, size_distribution

segments = st.integers(2, 60)
budgets = st.integers(2, 400)
seeds = st.integers(0, 2**64 - 1)


def as_tuples(present):
    return [tuple(row) for row in present.astype(int)]


@given(segments, budgets, seeds)
def test_rows_are_proper_and_within_the_budget(segments, budget, seed):
    drawn = draw_coalitions(segments, budget, np.random.default_rng(seed))
    assert 1 <= len(drawn.present) <= budget
    assert drawn.present.shape[1] == segments
    assert ((drawn.sizes > 0) & (drawn.sizes < segments)).all()
    assert (drawn.weight > 0).all()
    assert np.isfinite(drawn.weight).all()


@given(segments, budgets, seeds)
def test_the_same_seed_draws_the_same(segments, budget, seed):
    first, second = (draw_coalitions(segments, budget, np.random.default_rng(seed)) for _ in range(2))
    assert first.present.tobytes() == second.present.tobytes()
    assert first.weight.tobytes() == second.weight.tobytes()


@pytest.mark.parametrize("segments", range(2, 11))
def test_everything_when_it_fits(segments):
    every = 2**segments - 2
    drawn = draw_coalitions(segments, every, np.random.default_rng(0))
    assert len(set(as_tuples(drawn.present))) == len(drawn.present) == every
    assert (drawn.weight == 1).all()


@pytest.mark.parametrize("segments", [5, 12, 40])
def test_otherwise_pairs_of_complements(segments):
    budget = min(2**segments - 3, 301)
    drawn = draw_coalitions(segments, budget, np.random.default_rng(0))
    assert len(drawn.present) == budget // 2 * 2
    assert (drawn.present[0::2] == ~drawn.present[1::2]).all()


@pytest.mark.parametrize("segments", [2, 3, 8, 33, 200])
def test_sizes_are_half_uniform_half_fair_coins(segments):
    coins = [math.comb(segments, size) / (2**segments - 2) for size in range(1, segments)]
    expected = [0.5 / (segments - 1) + 0.5 * coin for coin in coins]
    found = size_distribution(segments)
    assert found == pytest.approx(expected, rel=1e-9)
    assert (np.array(coins) / found).max() <= 2
    assert (1 / (segments - 1) / found).max() <= 2


def test_log_choose_equals_the_binomial():
    for count in (2, 7, 50, 400):
        sizes = np.arange(1, count)
        expected = [math.log(math.comb(count, int(size))) for size in sizes]
        assert log_choose(count, sizes) == pytest.approx(expected, rel=1e-10, abs=1e-10)


def test_subsets_of_a_size_are_equally_likely():
    """Chi-square over all 62 subsets of six against p(size)/C(6,size); pairs are drawn, so one of each pair counts."""
    drawn = [draw_coalitions(6, 60, np.random.default_rng(seed)).present[0::2] for seed in range(600)]
    counts = Counter(as_tuples(np.concatenate(drawn)))
    rows = sorted(counts)
    assert len(rows) == 2**6 - 2
    share = size_distribution(6)
    expected = np.array([share[sum(row) - 1] / math.comb(6, sum(row)) for row in rows]) * sum(counts.values())
    assert stats.chisquare([counts[row] for row in rows], expected).pvalue > 1e-3


def test_weights_are_one_over_the_probability_of_a_row():
    drawn = draw_coalitions(15, 200, np.random.default_rng(3))
    share = size_distribution(15)
    inverse = [math.comb(15, int(size)) / share[size - 1] for size in drawn.sizes]
    assert drawn.weight / drawn.weight[0] == pytest.approx(np.array(inverse) / inverse[0], rel=1e-9)


def test_weighted_rows_give_expectations_over_all_subsets():
    """The weighted share of rows that hold superpixels 1 and 2 but not 3 estimates an eighth (4 standard errors)."""
    found = []
    for seed in range(100):
        drawn = draw_coalitions(16, 2000, np.random.default_rng(seed))
        hit = drawn.present[:, 1] & drawn.present[:, 2] & ~drawn.present[:, 3]
        found.append(np.average(hit, weights=drawn.weight))
    error = np.std(found, ddof=1) / 10
    assert error < 0.002
    assert abs(np.mean(found) - 1 / 8) < 4 * error
