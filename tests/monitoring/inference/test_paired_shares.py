"""The score interval of paired shares: against the likelihood, McNemar's test, and a count of all outcomes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest, multinomial, norm

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.paired_shares import chance_by_images, chance_within, difference_interval

counts = st.integers(1, 300).flatmap(
    lambda images: st.tuples(st.integers(0, images), st.integers(0, images), st.just(images)).filter(
        lambda each: each[0] + each[1] <= each[2]
    )
)


def score(first, second, images, margin):
    """The score statistic with the share of the second found by maximising the likelihood of the three outcomes."""

    def minus_likelihood(share):
        chances = np.array([share + margin, share, 1 - 2 * share - margin])
        seen = np.array([first, second, images - first - second])
        return -float(np.where(seen > 0, seen * np.log(np.maximum(chances, 1e-300)), 0).sum())

    ends = (max(0.0, -margin), (1 - margin) / 2)
    share = float(minimize_scalar(minus_likelihood, bounds=ends, method="bounded", options={"xatol": 1e-12}).x)
    return (first - second - images * margin) / np.sqrt(images * (2 * share + margin - margin**2))


@pytest.mark.parametrize("seen", [(40, 20, 160), (7, 1, 21), (6, 16, 161), (12, 0, 40), (0, 3, 50)])
def test_the_interval_ends_where_the_likelihoods_score_is_that_of_its_confidence(seen):
    lower, upper = difference_interval(*seen, 0.95)
    reach = norm.isf(0.025)
    assert score(*seen, lower) == pytest.approx(reach, abs=2e-3)
    assert score(*seen, upper) == pytest.approx(-reach, abs=2e-3)


@given(counts)
def test_the_interval_holds_the_difference_and_turns_with_the_versions(seen):
    first, second, images = seen
    lower, upper = difference_interval(first, second, images, 0.95)
    assert -1 <= lower <= (first - second) / images <= upper <= 1
    assert difference_interval(second, first, images, 0.95) == pytest.approx((-upper, -lower), abs=1e-9)


@given(counts)
def test_without_a_margin_it_is_never_bolder_than_mcnemars_exact_test(seen):
    first, second, images = seen
    differing = first + second
    exact = binomtest(first, differing, alternative="greater").pvalue if differing else 1.0
    found = [chance_within(first, second, images, margin) for margin in (0.0, 0.02, 0.1)]
    assert found[0] >= exact
    assert found == sorted(found)


@pytest.mark.parametrize("churn", [0.0, 0.02, 0.1, 0.3])
@pytest.mark.parametrize(("margin", "level", "most"), [(0.0, 0.05, 0.05), (0.02, 0.05, 0.055), (0.1, 0.05, 0.075)])
def test_a_loss_of_just_the_margin_is_rarely_called_more(margin, level, most, churn):
    """Every outcome of 60 images, weighted by its chance: the score's own error shows at wide margins alone."""
    images, chances = 60, (margin + churn / 2, churn / 2, 1 - margin - churn)
    outcomes = np.array([(lost, won) for lost in range(images + 1) for won in range(images + 1 - lost)])
    weights = multinomial.pmf(np.column_stack([outcomes, images - outcomes.sum(axis=1)]), images, chances)
    likely = weights > 1e-7
    found = [chance_within(int(lost), int(won), images, margin) <= level for lost, won in outcomes[likely]]
    assert float(weights[likely] @ np.array(found)) <= most


@pytest.mark.parametrize("seen", [(-1, 0, 10), (6, 5, 10), (0, 0, 0)])
def test_counts_that_are_none_are_refused(seen):
    with pytest.raises(ConfigError, match="expected counts of"):
        difference_interval(*seen, 0.95)


def test_by_images_the_chance_is_what_it_says_where_rows_of_an_image_go_together() -> None:
    """Where the truth is the margin, at most 5 % of samples fall below 5 % (and some); rows for images: far more."""
    generator, runs, margin = np.random.default_rng(0), 400, 0.1
    below = np.zeros(2)
    for _ in range(runs):
        sizes = generator.integers(1, 9, 40)
        terms = np.repeat(generator.choice([1.0, 0.0, -1.0], 40, p=[0.2, 0.7, 0.1]), sizes)
        images = np.repeat([f"{each}" for each in range(40)], sizes)
        first, second = int((terms > 0).sum()), int((terms < 0).sum())
        chances = chance_by_images(terms, images, margin), chance_within(first, second, len(terms), margin)
        below += np.array(chances) < 0.05
    assert 0.01 <= below[0] / runs <= 0.08
    assert below[1] / runs >= 0.12


def test_by_images_nothing_that_differs_and_one_image_tell_nothing() -> None:
    assert chance_by_images(np.zeros(6), np.array(list("aabbcc")), 0.0) == 1.0
    assert chance_by_images(np.ones(6), np.array(["a"] * 6), 0.0) == 0.5
