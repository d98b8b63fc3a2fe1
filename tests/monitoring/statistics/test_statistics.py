"""What every statistic promises, and each one's own formula."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.optimize import linprog
from scipy.stats import spearmanr
from skimage.metrics import structural_similarity

from attrail_explainers.errors import UnknownNameError
from attrail_monitoring.maps.statistic import make_statistic, statistic_names

every_statistic = pytest.mark.parametrize("name", statistic_names())
values = st.floats(-(2.0**100), 2.0**100) | st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324])
shapes = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))
maps = shapes.flatmap(lambda shape: arrays.arrays(np.float64, shape, elements=values))
pairs = shapes.flatmap(lambda shape: st.tuples(*(arrays.arrays(np.float64, shape, elements=values) for _ in range(2))))


def seen(name, maps):
    """What a statistic gets to see of maps: regional ones their mass inside and outside, here of the upper half."""
    if not getattr(make_statistic(name), "regional", False):
        return maps
    height = maps.shape[1] // 2
    halves = [np.abs(part).sum(axis=(1, 2)) for part in (maps[:, :height], maps[:, height:])]
    return np.stack(halves, axis=1)[:, None]


def terms_of(name, reference, candidate):
    return make_statistic(name).terms(seen(name, reference), seen(name, candidate))


def distance(name, reference, candidate):
    return float(make_statistic(name).value(terms_of(name, reference, candidate).mean(axis=0)))


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
    ramp, above = np.arange(100.0).reshape(1, 10, 10), np.arange(10)[:, None] < 5
    board = np.indices((1, 10, 10)).sum(axis=0) % 2 - 0.5
    ends = (np.eye(100)[:1].reshape(1, 10, 10), np.eye(100)[99:].reshape(1, 10, 10))
    extremes = ((ramp, -ramp), (ramp * above, ramp * ~above), (board, -board), ends)
    furthest = max(distance(name, *pair) for pair in extremes)
    assert furthest == pytest.approx(make_statistic(name).upper, rel=0.01)  # SSIM's constants keep it from 1


@every_statistic
@given(pair=pairs)
def test_value_is_a_function_of_mean_terms(name, pair):
    """Shards can be added up: weighted mean terms of two halves are the mean terms of the whole."""
    statistic = make_statistic(name)
    terms = terms_of(name, *pair)
    assert terms.shape[0] == len(pair[0])
    assert np.isfinite(terms).all()
    each = np.concatenate([terms_of(name, first[None], second[None]) for first, second in zip(*pair, strict=True)])
    assert each == pytest.approx(terms, abs=1e-12)
    stacked = statistic.value(np.stack([terms.mean(axis=0), terms[0]]))
    assert stacked == pytest.approx([float(statistic.value(each)) for each in (terms.mean(axis=0), terms[0])])


@every_statistic
@given(pair=pairs, shares=st.tuples(*[st.floats(0, 0.5)] * 2))
def test_value_is_a_norm_of_the_mean_terms(name, pair, shares):
    """No larger than its parts together, and a share of it is that share: images without a map can be bounded."""
    statistic = make_statistic(name)
    terms = terms_of(name, *pair)
    first, second = (share * row for share, row in zip(shares, (terms[0], terms[-1]), strict=True))
    together = float(statistic.value(first + second))
    parts = [float(statistic.value(each)) for each in (first, second)]
    assert together <= sum(parts) + 1e-12
    assert parts == pytest.approx(
        [share * float(statistic.value(row)) for share, row in zip(shares, (terms[0], terms[-1]), strict=True)]
    )
    assert statistic.value(0 * first) == 0


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


def test_peak_shift_is_the_largest_change_of_one_cell():
    """Every image gives a tenth of its evidence, from all over the map, to one corner, which had 4 % of it before."""
    even = np.full((6, 5, 5), 0.04)
    marked = 0.9 * even
    marked[:, 0, 0] += 0.1
    assert distance("peak_shift", even, marked) == pytest.approx(0.1 * 0.96)
    assert distance("coherent_shift", even, marked) == pytest.approx(0.1 * 0.96)
    first, second = random_maps(0), random_maps(1)
    changes = []
    for sign in (1, -1):  # evidence for, evidence against
        parts = [np.maximum(sign * maps, 0) / np.abs(maps).sum(axis=(1, 2), keepdims=True) for maps in (first, second)]
        changes.append(np.abs(parts[1].mean(axis=0) - parts[0].mean(axis=0)).max())
    assert distance("peak_shift", first, second) == pytest.approx(max(changes))


def test_many_small_changes_leave_the_peak_low_and_one_large_change_does_not():
    """A tenth of the evidence moves from the left half to the right, or onto one cell: the shift is the same."""
    even = np.full((3, 4, 4), 1 / 16)
    spread, onto = even.copy(), even.copy()
    for moved in (spread, onto):
        moved[:, :, :2] -= 0.1 / 8
    spread[:, :, 2:] += 0.1 / 8
    onto[:, 3, 3] += 0.1
    assert [distance("coherent_shift", even, each) for each in (spread, onto)] == pytest.approx([0.1, 0.1])
    assert [distance("peak_shift", even, each) for each in (spread, onto)] == pytest.approx([0.1 / 8, 0.1])


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


def test_subgroup_shift_is_the_mean_eighth_power_of_total_variation():
    """A quarter of one image's evidence moves; the other image's stays."""
    first = np.array([[[4.0, 0, 0, 0]], [[1, 1, 1, 1]]])
    second = np.array([[[3.0, 1, 0, 0]], [[2, 2, 2, 2]]])
    assert distance("subgroup_shift", first, second) == pytest.approx(0.25**8 / 2)


@pytest.mark.parametrize("shape", [(14, 14), (8, 11), (12, 7)])
def test_ssim_distance_equals_scikit_image(shape):
    """Its whole similarity map, averaged over all cells; scikit-image's own mean leaves the border out."""
    first, second = (np.random.default_rng(seed).normal(size=(3, *shape)) for seed in range(2))
    second = 0.5 * first + second
    for term, pair in zip(
        make_statistic("ssim_distance").terms(first, second), zip(first, second, strict=True), strict=True
    ):
        grey = [0.5 + each / np.abs(each).max() / 2 for each in pair]
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "full": True}
        similarity = structural_similarity(*grey, data_range=1, win_size=7, **options)[1]
        assert term[0] == pytest.approx((1 - similarity.mean()) / 2)


def carried_exactly(first, second):
    """The transport problem itself, as a linear programme, with city-block costs."""
    rows, columns = (places.ravel() for places in np.indices(first.shape))
    costs = np.abs(rows[:, None] - rows) + np.abs(columns[:, None] - columns)
    count = first.size
    leaving, coming = np.kron(np.eye(count), np.ones(count)), np.kron(np.ones(count), np.eye(count))
    totals = np.concatenate([first.ravel() / first.sum(), second.ravel() / second.sum()])
    return linprog(costs.ravel(), A_eq=np.concatenate([leaving, coming]), b_eq=totals).fun / (sum(first.shape) - 2)


def test_earth_mover_distance_is_a_close_lower_bound_of_exact_transport():
    first, second = np.abs(random_maps(0, 20, 4)), np.abs(random_maps(1, 20, 4))
    found = make_statistic("earth_mover_distance").terms(first, second)[:, 0]
    exact = np.array([carried_exactly(*pair) for pair in zip(first, second, strict=True)])
    assert (found <= exact + 1e-9).all()
    assert found.sum() > 0.85 * exact.sum()


def test_earth_mover_distance_counts_the_way():
    """One spot carried by three rows and one column of a 10x10 grid is 4 of 18 steps; a whole map as much."""
    spot, moved = np.zeros((2, 1, 10, 10))
    spot[0, 2, 2], moved[0, 5, 3] = 5, 2
    assert distance("earth_mover_distance", spot, moved) == pytest.approx(4 / 18)
    blob = np.zeros((1, 10, 10))
    blob[0, :4, :4] = random_maps(0, 1, 4)
    assert distance("earth_mover_distance", blob, np.roll(blob, (3, 3), axis=(1, 2))) == pytest.approx(6 / 18)
    cross, other = np.eye(3)[None], np.eye(3)[None, ::-1]
    assert distance("earth_mover_distance", cross, other) > 0  # equal along rows and columns, not along diagonals


@pytest.mark.parametrize("name", ["ssim_distance", "earth_mover_distance", "sign_distance"])
def test_no_evidence_agrees_with_none_only(name):
    none, some = np.zeros((2, 5, 5)), np.abs(random_maps(0, 2, 5)) + 1
    assert distance(name, none, none) == 0
    assert distance(name, none, some) > 0.01
    if name != "ssim_distance":
        assert distance(name, none, some) == 1


def test_sign_distance_weighs_cells_by_their_evidence():
    """A tenth of one map's evidence and two tenths of the other's lie where signs differ."""
    first, second = np.array([[[6.0, -3.0, 1.0, 0.0]]]), np.array([[[7.0, -1.0, 0.0, 2.0]]])
    assert distance("sign_distance", first, second) == pytest.approx((0.1 + 0.2) / 2)
    assert distance("sign_distance", first, -first) == 1


def test_unknown_statistic_lists_the_names():
    with pytest.raises(UnknownNameError, match=f"unknown statistic 'ndcg': known are {', '.join(statistic_names())}"):
        make_statistic("ndcg")
