"""Conformal p-values against their definition and their promise."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.conformal import conformal_p_values

scores = st.lists(st.sampled_from([0.0, 0.5, 1.0]) | st.floats(-10, 10), max_size=20).map(np.array)


@given(scores, scores)
def test_equals_the_definition(calibration, found):
    expected = [(1 + sum(each >= score for each in calibration)) / (1 + len(calibration)) for score in found]
    assert conformal_p_values(calibration, found).tolist() == expected


@given(scores, scores, st.integers(0, 99))
def test_order_does_not_matter_and_larger_scores_have_smaller_p_values(calibration, found, seed):
    shuffled = np.random.default_rng(seed).permutation(calibration)
    assert (conformal_p_values(shuffled, found) == conformal_p_values(calibration, found)).all()
    assert (np.diff(conformal_p_values(calibration, np.sort(found))) <= 0).all()


@pytest.mark.parametrize("ties", [False, True])
def test_usual_scores_seldom_have_small_p_values(ties):
    """One more score of the same kind; with ties p-values only grow. 4 binomial standard errors."""
    generator, runs = np.random.default_rng(0), 4000
    draws = generator.poisson(2, (runs, 20)).astype(float) if ties else generator.normal(size=(runs, 20))
    found = np.array([conformal_p_values(draw[:-1], draw[-1:])[0] for draw in draws])
    for alpha in (0.05, 0.2, 0.5):
        error = 4 * np.sqrt(alpha * (1 - alpha) / runs)
        assert (found <= alpha + 1e-9).mean() < alpha + error
        if not ties:
            assert (found <= alpha + 1e-9).mean() > alpha - error


@pytest.mark.parametrize("place", [0, 1])
def test_nan_is_refused(place):
    pair = [np.zeros(3), np.zeros(3)]
    pair[place] = np.array([0.0, np.nan, 1.0])
    with pytest.raises(ConfigError, match="without NaN"):
        conformal_p_values(*pair)
