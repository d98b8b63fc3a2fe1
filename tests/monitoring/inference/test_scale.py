"""Scales lead there and back, and tell what few images can tell."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_monitoring.inference.scale import Scale


@given(st.floats(1e-6, 1))
@pytest.mark.parametrize("scale", list(Scale))
def test_there_and_back(scale, value):
    assert scale.back(float(scale.of(value))) == pytest.approx(value)
    assert float(scale.of(value)) >= float(scale.of(value / 2))


def test_what_lies_beyond_a_scale_is_its_end():
    assert Scale.ANGLE.back(2.0) == 1.0
    assert Scale.ANGLE.back(-0.1) == 0.0
    assert np.isfinite(Scale.LOG.back(1e6))
    assert Scale.PLAIN.back(-0.1) == -0.1


@pytest.mark.parametrize("share", [0.1, 0.3, 0.7])
def test_a_binomial_share_scatters_alike_on_the_angle(share):
    drawn = np.random.default_rng(0).binomial(400, share, 20_000) / 400
    assert float(Scale.ANGLE.of(drawn).std()) == pytest.approx(Scale.ANGLE.least_spread(400), rel=0.05)
