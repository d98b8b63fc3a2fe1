"""Unpaired two-sample tests against direct formulas, their level and their power."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist

from attrail_explainers.errors import ConfigError, IncomparableError
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.windows import QUESTION, compare_windows, two_sample

both = pytest.mark.parametrize("statistic", ["mmd", "energy"])


def windows(seed, first=60, second=45, width=8, shift=0.0):
    generator = np.random.default_rng(seed)
    return generator.normal(size=(first, width)), generator.normal(size=(second, width)) + shift


def directly(statistic, first, second):
    """Every pair by itself, as the papers write it."""
    pooled = np.concatenate([first, second])
    width = np.median(pdist(pooled))

    def entry(a, b):
        length = np.sqrt(((a - b) ** 2).sum())
        return np.exp(-(length**2) / (2 * width**2)) if statistic == "mmd" else -length

    def within(rows):
        pairs = [entry(rows[i], rows[j]) for i in range(len(rows)) for j in range(len(rows)) if i != j]
        return np.mean(pairs)

    across = np.mean([entry(a, b) for a in first for b in second])
    return within(first) + within(second) - 2 * across


@both
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_equals_the_direct_formula(statistic, shift):
    first, second = windows(0, shift=shift)
    assert two_sample(first, second, statistic, 1).value == pytest.approx(directly(statistic, first, second))


def test_energy_equals_scipy_in_one_dimension():
    """scipy gives the square root of the biased distance; the zeros on its diagonal are undone."""
    first, second = (each[:, 0] for each in windows(1, shift=1.0))
    biased = stats.energy_distance(first, second) ** 2
    spare = sum(pdist(each[:, None]).mean() / len(each) for each in (first, second))
    assert two_sample(first[:, None], second[:, None], "energy", 1).value == pytest.approx(biased - spare)


@both
def test_blocks_do_not_matter(statistic, monkeypatch):
    first, second = windows(2, shift=0.2)
    whole = two_sample(first, second, statistic, 99)
    monkeypatch.setattr("attrail_monitoring.windows.BLOCK", 7)
    blocks = two_sample(first, second, statistic, 99)
    assert blocks.value == pytest.approx(whole.value, rel=1e-9)
    assert blocks.p_value == whole.p_value


@both
def test_the_level_holds(statistic):
    """p-values of equal windows are uniform but for steps of 1/20; 4 binomial standard errors at three levels."""
    runs = 400
    found = np.array([two_sample(*windows(seed, 20, 15, 4), statistic, 19, seed).p_value for seed in range(runs)])
    for level in (0.05, 0.2, 0.5):
        assert abs((found <= level + 1e-9).mean() - level) < 4 * np.sqrt(level * (1 - level) / runs)


@both
def test_a_shift_is_seen(statistic):
    """Half an SD in each of eight directions."""
    found = [two_sample(*windows(seed, shift=0.5), statistic, 99, seed).p_value for seed in range(20)]
    assert np.mean(np.array(found) <= 0.05) >= 0.9


@both
def test_a_change_of_spread_alone_is_seen(statistic):
    first, second = windows(0)
    assert two_sample(first, 2 * second, statistic, 199).p_value <= 0.01


@both
@given(seed=st.integers(0, 1000))
def test_windows_may_change_places(statistic, seed):
    first, second = windows(seed, 9, 6, 3)
    there, back = two_sample(first, second, statistic, 9), two_sample(second, first, statistic, 9)
    assert there.value == pytest.approx(back.value, abs=1e-12)
    assert there.used == back.used[::-1]


def test_the_seed_alone_decides():
    first, second = windows(0, shift=0.1)
    one, same, other = (two_sample(first, second, "mmd", 99, seed) for seed in (1, 1, 2))
    assert one == same
    assert one.value == other.value
    assert one.p_value != other.p_value


def test_large_windows_are_drawn_down():
    first, second = windows(0, 300, 50)
    found = two_sample(first, second, "mmd", 9, most=100)
    assert found.used == (100, 50)
    assert found == two_sample(first, second, "mmd", 9, most=100)
    assert found.value != two_sample(first, second, "mmd", 9).value


def test_equal_rows_everywhere_are_one_distribution():
    same = np.ones((10, 3))
    assert two_sample(same, same, "mmd", 99).p_value == 1


def test_maps_of_two_windows(maps):
    """The second window's evidence lies elsewhere; scale does not matter, and images without a map are counted."""
    generator = np.random.default_rng(0)
    first, second, other = generator.uniform(size=(3, 40, 8, 8))
    other[:, :2, :2] += 3
    other[0] = np.nan
    windows_ = [maps(values, slice_digest=f"sha256:{name}") for name, values in (("a", first), ("b", second * 5))]
    alike = compare_windows(*windows_, Settings(grid=4), 99)
    moved = compare_windows(windows_[0], maps(other, slice_digest="sha256:c"), Settings(grid=4), 99)
    assert [each.statistic for each in moved] == ["mmd", "energy"]
    for here, there in zip(alike, moved, strict=True):
        assert here.p_value > 0.05
        assert there.p_value == 0.01
        assert (there.used, there.undefined) == ((40, 39), (0, 1))
        assert there.question == QUESTION
        assert "unpaired" in QUESTION


@pytest.mark.parametrize(
    ("change", "aspect"),
    [
        ({"weights_digest": "sha256:b"}, "weights"),
        ({"program_digest": "sha256:b"}, "program"),
        ({"explainer": "lime"}, "explainer"),
        ({"parameters": {}}, "param"),
    ],
)
def test_two_models_are_no_two_windows(maps, change, aspect):
    first = maps(np.ones((3, 2, 2)))
    with pytest.raises(IncomparableError, match=aspect):
        compare_windows(first, dataclasses.replace(first, **change))


def test_unusable_windows_are_refused():
    rows = np.ones((5, 2))
    with pytest.raises(ConfigError, match="two windows of 2 or more rows"):
        two_sample(rows, rows[:1])
    with pytest.raises(ConfigError, match="of one width"):
        two_sample(rows, rows[:, :1])
    with pytest.raises(ConfigError, match="known are energy, mmd"):
        two_sample(rows, rows, "ks")
