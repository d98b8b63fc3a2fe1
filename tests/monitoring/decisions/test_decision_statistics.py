"""What every statistic of decisions promises, and each one's own formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve

from attrail_explainers.errors import UnknownNameError
from attrail_monitoring.decisions.decision_statistic import decision_statistic_names, make_decision_statistic
from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.verdict.policy import Policy

every_statistic = pytest.mark.parametrize("name", decision_statistic_names())
seeds = st.integers(0, 10_000)


def decisions(seed, images=200, classes=4, labels=0):
    """Predictions that are right more often the surer they are."""
    known = np.random.default_rng(labels).integers(0, classes, images)
    logits = np.random.default_rng(seed).normal(0, 1.5, (images, classes))
    logits[np.arange(images), known] += 1
    return Decisions.of(logits, known)


def value(name, reference, other):
    statistic = make_decision_statistic(name)
    return float(statistic.value(statistic.terms(reference, other).mean(axis=0)))


def test_there_are_three():
    assert {"accuracy_loss", "calibration_error", "churn"} <= set(decision_statistic_names())
    with pytest.raises(UnknownNameError, match="known are"):
        make_decision_statistic("recall")


@every_statistic
@given(seed=seeds)
def test_equal_decisions_are_nothing(name, seed):
    same = decisions(seed)
    assert value(name, same, decisions(seed)) == 0
    statistic = make_decision_statistic(name)
    lower, upper = statistic.interval(statistic.terms(same, same), 0.95, 50, 0)
    assert lower <= 0 <= upper


@every_statistic
@given(first=seeds, second=seeds)
def test_values_lie_in_their_range_and_in_their_interval(name, first, second):
    statistic, pair = make_decision_statistic(name), (decisions(first), decisions(second))
    found = value(name, *pair)
    lower, upper = statistic.interval(statistic.terms(*pair), 0.95, 50, 0)
    assert statistic.least <= lower <= found <= upper <= statistic.upper


@every_statistic
@given(seed=seeds)
def test_the_order_of_the_images_is_nothing(name, seed):
    pair, order = (decisions(seed), decisions(seed + 1)), np.random.default_rng(seed).permutation(200)
    turned = [Decisions(each.predictions[order], each.labels[order], each.confidences[order]) for each in pair]
    assert value(name, *turned) == pytest.approx(value(name, *pair), abs=1e-12)


@every_statistic
def test_its_margin_is_a_key_of_the_policy_and_it_speaks(name):
    statistic, pair = make_decision_statistic(name), (decisions(1), decisions(2))
    assert statistic.margin == "" or 0 <= getattr(Policy(), statistic.margin) <= 1
    levels = [statistic.level(each) for each in pair]
    for found in (-0.1, 0.0, 0.1):
        assert statistic.words(found, *levels)


def test_churn_counts_changed_predictions_and_its_interval_is_exact():
    first = Decisions(np.zeros(50, dtype=int))
    second = Decisions(np.array([1] * 7 + [0] * 43))
    statistic = make_decision_statistic("churn")
    assert value("churn", first, second) == pytest.approx(0.14)
    expected = binomtest(7, 50).proportion_ci(0.9, method="exact")
    found = statistic.interval(statistic.terms(first, second), 0.9, 10, 0)
    assert found == pytest.approx((expected.low, expected.high))
    assert statistic.words(0.14, None, None) == "14.0 % of the predictions changed"


@given(first=seeds, second=seeds)
def test_loss_of_accuracy_is_the_difference_of_accuracies(first, second):
    pair = decisions(first), decisions(second)
    accuracies = [float((each.predictions == each.labels).mean()) for each in pair]
    assert value("accuracy_loss", *pair) == pytest.approx(accuracies[0] - accuracies[1])
    statistic = make_decision_statistic("accuracy_loss")
    assert [statistic.level(each) for each in pair] == pytest.approx(accuracies)
    assert statistic.words(0.389, 0.72, 0.331) == "accuracy fell from 72.0 % to 33.1 %"
    assert statistic.words(-0.1, 0.7, 0.8) == "accuracy rose from 70.0 % to 80.0 %"


@pytest.mark.parametrize("images", [240, 1000])
def test_the_calibration_error_is_that_of_scikit_learns_quantile_bins(images):
    found, bins = decisions(3, images), min(15, images // 16)
    right = found.predictions == found.labels
    true, said = calibration_curve(right, found.confidences, n_bins=bins, strategy="quantile")
    ends = np.quantile(found.confidences, np.linspace(0, 1, bins + 1))[1:-1]
    weights = np.bincount(np.searchsorted(ends, found.confidences), minlength=bins) / images
    expected = float((weights * np.abs(true - said)).sum())
    assert make_decision_statistic("calibration_error").level(found) == pytest.approx(expected)


def test_overconfidence_is_calibration_error():
    """All answers said to be sure: the error is the share of wrong ones."""
    honest = decisions(4, images=400)
    sure = Decisions(honest.predictions, honest.labels, np.ones(400))
    wrong = float((honest.predictions != honest.labels).mean())
    statistic = make_decision_statistic("calibration_error")
    assert statistic.level(sure) == pytest.approx(wrong)
    assert value("calibration_error", honest, sure) == pytest.approx(wrong - statistic.level(honest))
    assert value("calibration_error", honest, sure) > 0.1


def test_few_images_make_few_bins():
    """One bin of 20 images: the error is the gap of accuracy and mean confidence."""
    found = decisions(5, images=20)
    gap = float((found.predictions == found.labels).mean() - found.confidences.mean())
    assert make_decision_statistic("calibration_error").level(found) == pytest.approx(abs(gap))
