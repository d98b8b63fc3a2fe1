"""Corrections for many hypotheses against statsmodels, their definitions and their laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from statsmodels.stats.multitest import multipletests

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.multiplicity import (
    benjamini_hochberg,
    e_benjamini_hochberg,
    e_values_of,
    holm,
    holm_levels,
)

chances = st.floats(0, 1) | st.sampled_from([0.0, 1.0, 1e-300, 0.01, 0.02])
lists = st.lists(chances, min_size=1, max_size=30)
e_lists = st.lists(st.floats(0, 1e6) | st.sampled_from([0.0, 1.0, 20.0, 40.0, np.inf]), min_size=1, max_size=12)
adjustments = pytest.mark.parametrize("adjust", [holm, benjamini_hochberg])


@pytest.mark.parametrize(("adjust", "name"), [(holm, "holm"), (benjamini_hochberg, "fdr_bh")])
@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_equals_statsmodels(adjust, name, count):
    """Rounded so that many are tied; without hypothesis, because statsmodels collects garbage at every call."""
    p_values = np.random.default_rng(count).beta(0.3, 1, count).round(2)
    assert adjust(p_values) == pytest.approx(multipletests(p_values, method=name)[1], rel=1e-12, abs=0)


@given(p_values=lists, alpha=st.floats(0.001, 0.2))
def test_levels_of_holm_say_what_holm_rejects(p_values, alpha):
    """Up to rounding; the smallest p-value is held against Bonferroni's level, and none against more than alpha."""
    adjusted, levels, found = holm(p_values), holm_levels(p_values, alpha), np.array(p_values)
    clear = ~np.isclose(adjusted, alpha, rtol=1e-9)
    assert ((found <= levels) == (adjusted <= alpha))[clear].all()
    assert levels[found.argmin()] == alpha / len(found)
    assert levels.max() <= alpha


@adjustments
@given(p_values=lists, seed=st.integers(0, 99))
def test_order_does_not_matter(adjust, p_values, seed):
    order = np.random.default_rng(seed).permutation(len(p_values))
    assert (adjust(np.array(p_values)[order]) == adjust(p_values)[order]).all()


@adjustments
@given(p_values=lists, seed=st.integers(0, 99), share=st.floats(0, 1))
def test_smaller_p_values_give_smaller_adjusted_ones(adjust, p_values, seed, share):
    """Whichever of them fall, none of the adjusted ones rises; and none is below its own p-value."""
    fallen = np.array(p_values)
    fallen[np.random.default_rng(seed).integers(len(fallen))] *= share
    assert (adjust(fallen) <= adjust(p_values)).all()
    assert (adjust(p_values) >= np.array(p_values) * (1 - 1e-12)).all()
    assert (np.diff(adjust(np.sort(p_values))) >= 0).all()


@given(p_values=lists)
def test_holm_lies_between_benjamini_hochberg_and_bonferroni(p_values):
    bonferroni = np.minimum(np.array(p_values) * len(p_values), 1)
    assert (holm(p_values) <= bonferroni).all()
    assert (benjamini_hochberg(p_values) <= holm(p_values) * (1 + 1e-12)).all()


def by_definition(e_values, rate):
    """Wang & Ramdas 2022, definition 1: the largest k for which k e_[k] >= M / rate, and the k largest e-values."""
    ranked = sorted(e_values, reverse=True)
    passing = [k for k in range(1, len(ranked) + 1) if ranked[k - 1] >= len(ranked) / (rate * k)]
    return np.array(e_values) >= ranked[max(passing) - 1] if passing else np.zeros(len(e_values), dtype=bool)


@given(e_values=e_lists, rate=st.floats(0.001, 0.999))
def test_e_benjamini_hochberg_equals_its_definition(e_values, rate):
    adjusted = e_benjamini_hochberg(e_values)
    if (np.abs(adjusted - rate) > 1e-9).all():  # on the edge itself rounding decides
        assert (adjusted <= rate).tolist() == by_definition(e_values, rate).tolist()


def test_e_benjamini_hochberg_holds_its_rate_under_dependence():
    """All nulls share one e-value, as far from independent as can be, and ten of thirty hypotheses are false."""
    generator, rate, proportions = np.random.default_rng(0), 0.2, []
    for _ in range(2000):
        null = np.exp(2 * generator.normal() - 2)
        rejected = e_benjamini_hochberg([null] * 20 + list(np.exp(2 * generator.normal(size=10) + 2))) <= rate
        proportions.append(rejected[:20].sum() / max(1, rejected.sum()))
    assert 0 < np.mean(proportions) < rate * 20 / 30 + 3 * np.std(proportions) / 2000**0.5


@given(p_value=st.floats(1e-12, 1))
def test_the_calibrator_equals_its_formula(p_value):
    """The mean of k p^(k-1) over k, integrated numerically."""
    expected = quad(lambda k: k * p_value ** (k - 1), 0, 1, epsabs=0, epsrel=1e-10)[0]
    assert e_values_of(p_value)[0] == pytest.approx(expected, rel=1e-8)


def test_the_calibrator_makes_e_values():
    """Its mean over uniform p-values is one, it falls, and its ends are infinity and one half."""
    mean = quad(lambda log: e_values_of(np.exp(-log))[0] * np.exp(-log), 0, 700, limit=500)[0]
    assert mean == pytest.approx(1, abs=2e-3)  # 1/700 of it lies beyond p = exp(-700)
    p_values = np.concatenate([[0, 5e-324], np.geomspace(1e-300, 1, 500)])
    found = e_values_of(p_values)
    assert (found[1:] <= found[:-1] * (1 + 1e-12)).all()
    assert e_values_of([0, 1]).tolist() == [np.inf, 0.5]


@pytest.mark.parametrize("call", [holm, benjamini_hochberg, e_values_of])
@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan])
def test_no_p_value_no_result(call, wrong):
    with pytest.raises(ConfigError, match=r"p-values in 0\.\.1"):
        call([0.5, wrong])


@pytest.mark.parametrize("wrong", [-1.0, np.nan])
def test_no_e_value_no_result(wrong):
    with pytest.raises(ConfigError, match="e-values of 0 or more"):
        e_benjamini_hochberg([1.0, wrong])
