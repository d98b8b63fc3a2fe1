"""Tests of paired labels against statsmodels, by enumeration and by simulation."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import SquareTable

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.paired_labels import changes, homogeneity


def labels(seed, count=300, kinds=4, moved=0.3):
    """Labels before; after, a share drew anew, rather the later kinds."""
    generator = np.random.default_rng(seed)
    before = generator.integers(0, kinds, count)
    weights = np.arange(1, kinds + 1) / np.arange(1, kinds + 1).sum()
    anew = generator.choice(kinds, count, p=weights)
    return before, np.where(generator.random(count) < moved, anew, before)


def table(before, after, kinds):
    found = np.zeros((kinds, kinds))
    np.add.at(found, (before, after), 1)
    return found


@pytest.mark.parametrize("kinds", [2, 3, 4, 7])
@pytest.mark.parametrize("seed", range(4))
def test_equals_statsmodels(seed, kinds):
    before, after = labels(seed, 600, kinds)
    found, square = homogeneity(before, after), SquareTable(table(before, after, kinds), shift_zeros=False)
    expected, bhapkar = square.homogeneity(), square.homogeneity("bhapkar")
    assert not found.permuted
    assert (found.statistic, found.freedom) == (pytest.approx(expected.statistic), expected.df)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6, abs=1e-14)
    assert found.bhapkar == pytest.approx(bhapkar.statistic)


def test_names_and_unused_labels_do_not_matter():
    before, after = labels(0)
    assert homogeneity(before * 10 - 3, after * 10 - 3) == homogeneity(before, after)
    steady = np.concatenate([np.full(50, 99), np.full(20, 98)])
    more = homogeneity(np.concatenate([before, steady]), np.concatenate([after, steady]))
    assert (more.freedom, more.permuted) == (3, False)
    assert more.statistic == pytest.approx(homogeneity(before, after).statistic)


def test_two_pairs_of_labels_that_nothing_joins():
    """Changes between 0 and 1 and between 2 and 3 only: two McNemar statistics, two degrees of freedom."""
    before = np.repeat([0, 1, 2, 3], [40, 15, 12, 30])
    after = np.repeat([1, 0, 3, 2], [40, 15, 12, 30])
    found = homogeneity(before, after)
    assert found.freedom == 2
    assert found.statistic == pytest.approx(25**2 / 55 + 18**2 / 42)


def test_few_changes_are_permuted_and_equal_the_enumeration():
    """Five images changed: all 32 exchanges can be listed."""
    before, after = np.array([0] * 20 + [1, 1, 1, 1, 2]), np.array([0] * 20 + [0, 0, 0, 2, 0])
    found = homogeneity(before, after, permutations=40_000)
    assert found.permuted
    statistics = []
    for exchange in product([False, True], repeat=5):
        swap = np.concatenate([np.zeros(20, dtype=bool), exchange])
        statistics.append(homogeneity(np.where(swap, after, before), np.where(swap, before, after), 1).statistic)
    expected = np.mean(np.array(statistics) >= found.statistic * (1 - 1e-9))
    assert found.p_value == pytest.approx(expected, abs=4 * np.sqrt(expected / 40_000))


@pytest.mark.parametrize("count", [40, 1000])
def test_the_level_holds(count):
    """Labels that change at random either way; few changes go by permutation, many by the chi-square."""
    generator, runs, found = np.random.default_rng(count), 300, []
    for seed in range(runs):
        first, drawn = generator.integers(0, 3, (2, count))
        found.append(homogeneity(first, np.where(generator.random(count) < 0.2, drawn, first), 199, seed))
    assert any(each.permuted for each in found) == (count == 40)
    rejected = np.mean([each.p_value <= 0.1 for each in found])
    assert rejected < 0.1 + 4 * np.sqrt(0.09 / runs)


def test_nothing_changed():
    same = np.array([3, 3, 5])
    found = homogeneity(same, same)
    assert (found.statistic, found.freedom, found.p_value, found.bhapkar) == (0, 0, 1, 0)
    assert [change.p_value for change in changes(same, same)] == [1, 1]


@given(st.integers(0, 10**6))
def test_the_seed_alone_decides(seed):
    before, after = labels(1, 30)
    assert homogeneity(before, after, 99, seed) == homogeneity(before, after, 99, seed)


def test_the_label_that_grew_is_named():
    """One image in ten moved to a label of its own, and left all others."""
    before = np.random.default_rng(0).integers(0, 5, 400)
    after = np.where(np.arange(400) < 40, 9, before)
    *others, new = changes(before, after)
    assert (new.label, new.before, new.after, new.came, new.left) == (9, 0, 40, 40, 0)
    assert new.p_value == pytest.approx(6 * 2 * 0.5**40)
    assert all(change.came == 0 for change in others)
    fewest = min(others, key=lambda change: change.left)
    assert max(change.p_value for change in others) == pytest.approx(2 * 0.5**fewest.left)
    assert sum(change.after for change in others) + new.after == 400


def test_where_every_image_changed_bhapkars_statistic_is_infinite():
    assert homogeneity(np.zeros(30, dtype=np.int64), np.ones(30, dtype=np.int64)).bhapkar is None


def test_other_images_are_refused():
    with pytest.raises(ConfigError, match="two labels of the same images"):
        homogeneity(np.zeros(3, dtype=np.int64), np.zeros(2, dtype=np.int64))
