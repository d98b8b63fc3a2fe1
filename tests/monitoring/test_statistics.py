"""What every statistic promises, and each one's own formula."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.stats import spearmanr

from attrail_explainers.errors import UnknownNameError
from attrail_monitoring.statistic import make_statistic, statistic_names

every_statistic = pytest.mark.parametrize("name", statistic_names())
values = st.floats(-(2.0**100), 2.0**100) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324])
shapes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
maps = shapes.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=values))
pairs = shapes.flatmap(lambda shape: st.tuples(*(arrays.arrays(np.float64, shape, elements=values) for _ in range(2))))


def distance(name, reference, candidate):
    statistic = make_statistic(name)
    return float(statistic.value(statistic.terms(reference, candidate).mean(axis=0)))


def random_maps(seed, count=40, side=7):
    return np.random.default_rng(seed).normal(size=(count, side, side))


@every_statistic
@given(same=maps)
def test_zero_on_equal_maps(name, same):
    assert distance(name, same, same.copy()) == 0


@every_statistic
@given(pair=pairs)
@example(pair=(np.array([[[6.0, 23, 25, 0, 0, 0]]]), np.array([[[0.0, 0, 0, 18, 24, 10]]])))  # rounds to above 1
def test_symmetric_and_bounded(name, pair):
    there, back = distance(name, *pair), distance(name, *reversed(pair))
    assert there == pytest.approx(back, abs=1e-12)
    assert 0 <= there <= make_statistic(name).upper


@every_statistic
def test_different_maps_are_apart(name):
    assert distance(name, random_maps(0), random_maps(1)) > 0


@every_statistic
def test_further_apart_is_larger(name):
    """Mixing in more of one other map on every image moves further, and the bound is within reach."""
    first, other = random_maps(0), np.repeat(random_maps(1, count=1), 40, axis=0)
    found = [distance(name, first, (1 - share) * first + share * other) for share in (0.0, 0.1, 0.4, 1.0)]
    assert found == sorted(found)
    assert len(set(found)) == 4
    corner, opposite = np.zeros((3, 10, 10)), np.zeros((3, 10, 10))
    corner[:, :, :] = np.arange(100).reshape(10, 10)
    opposite[:, :, :] = -corner
    assert distance(name, corner, opposite) == pytest.approx(make_statistic(name).upper)


@every_statistic
@given(pair=pairs)
def test_value_is_a_function_of_mean_terms(name, pair):
    """Shards can be added up: weighted mean terms of two halves are the mean terms of the whole."""
    statistic = make_statistic(name)
    terms = statistic.terms(*pair)
    assert terms.shape[0] == len(pair[0])
    assert np.isfinite(terms).all()
    each = np.concatenate([statistic.terms(first[None], second[None]) for first, second in zip(*pair, strict=True)])
    assert each == pytest.approx(terms, abs=1e-12)
    stacked = statistic.value(np.stack([terms.mean(axis=0), terms[0]]))
    assert stacked == pytest.approx([float(statistic.value(each)) for each in (terms.mean(axis=0), terms[0])])


@every_statistic
def test_scale_of_a_map_does_not_matter(name):
    first, second = random_maps(0), random_maps(1)
    assert distance(name, first * 8, second) == pytest.approx(distance(name, first, second), abs=1e-12)


@given(pair=pairs)
def test_rank_distance_equals_scipy(pair):
    terms = make_statistic("rank_distance").terms(*pair)[:, 0]
    for term, first, second in zip(terms, *(maps.reshape(len(maps), -1) for maps in pair), strict=True):
        if np.ptp(first) and np.ptp(second):
            assert term == pytest.approx(1 - spearmanr(first, second).statistic, abs=1e-9)
        else:
            assert term == (0 if np.ptp(first) == np.ptp(second) == 0 else 1)


def test_rank_distance_sees_moves_that_cancel_on_average():
    """Evidence on one random place in one version, on another in the other: both mean maps are flat."""
    generator = np.random.default_rng(0)
    first, second = (np.eye(49)[generator.permutation(np.arange(490) % 49)].reshape(-1, 7, 7) for _ in range(2))
    assert distance("coherent_shift", first, second) == pytest.approx(0, abs=1e-12)
    assert distance("rank_distance", first, second) > 0.5


def test_coherent_shift_equals_the_total_variation_of_mean_shares():
    first, second = random_maps(0), random_maps(1)
    shares = [(maps / np.abs(maps).sum(axis=(1, 2), keepdims=True)).mean(axis=0) for maps in (first, second)]
    expected = sum(abs(a - b) for a, b in zip(shares[0].ravel(), shares[1].ravel(), strict=True)) / 2
    assert distance("coherent_shift", first, second) == pytest.approx(expected)


def test_coherent_shift_reads_off_a_common_move():
    """Every map gives 30 % of its mass to one corner: the shift is 0.3 but for what lay there before."""
    first = np.abs(random_maps(0))
    first /= first.sum(axis=(1, 2), keepdims=True)
    first[:, 0, 0] = 0
    first /= first.sum(axis=(1, 2), keepdims=True)
    second = 0.7 * first
    second[:, 0, 0] = 0.3
    assert distance("coherent_shift", first, second) == pytest.approx(0.3)


def test_top_distance_counts_missing_cells():
    first = np.arange(100, dtype=float).reshape(1, 10, 10)
    second = first.copy()
    second.flat[[90, 91, 92]] = 50
    second.flat[[40, 41, 42]] = 200
    assert distance("top_distance", first, second) == pytest.approx(0.3)


@pytest.mark.parametrize("flat", [np.zeros((2, 5, 5)), np.full((2, 5, 5), -3.0)])
def test_flat_maps(flat):
    varied = random_maps(0, 2, 5)
    assert distance("rank_distance", flat, flat + 1) == 0
    assert distance("rank_distance", flat, varied) == 1
    assert distance("top_distance", flat, flat + 1) == 0


def test_unknown_statistic_lists_the_names():
    with pytest.raises(UnknownNameError, match=f"unknown statistic 'ndcg': known are {', '.join(statistic_names())}"):
        make_statistic("ndcg")
