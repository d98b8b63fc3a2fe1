"""Spread that small floors share."""

import numpy as np
import pytest

from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.inference.shared_spread import shared_spread


def floors(seed, classes=12, models=5, spreads=0.2):
    generator = np.random.default_rng(seed)
    return np.exp(generator.normal(-1, np.broadcast_to(spreads, classes)[:, None], (classes, models)))


def test_equal_spreads_are_pooled_and_different_ones_less():
    alike = shared_spread(floors(0))
    assert alike.freedom == pytest.approx(4 * 11)
    assert alike.variance == pytest.approx(0.04, rel=0.5)
    different = shared_spread(floors(0, spreads=np.geomspace(0.02, 2, 12)))
    assert different.freedom < 6


def test_fewer_than_three_floors_share_nothing():
    assert shared_spread(floors(0, classes=2)) is None


def test_distances_that_are_all_the_same_are_no_error():
    assert shared_spread(np.full((4, 5), 0.3)).variance >= 0


def test_the_bound_keeps_its_level_with_a_fraction_of_the_width():
    """One more model exceeds the shared bound at the stated rate, where its own five alone give far wider bounds."""
    exceeded, narrower = 0, 0
    for seed in range(400):
        drawn = floors(seed, models=6)
        spread = shared_spread(drawn[:, :5])
        for row in drawn:
            floor = NoiseFloor(tuple(row[:5]), shared=spread)
            exceeded += floor.p_value(row[5]) < 0.01
            narrower += floor.bound(0.001) < NoiseFloor(tuple(row[:5])).bound(0.001)
    assert exceeded / (400 * 12) == pytest.approx(0.01, abs=0.006)
    assert narrower / (400 * 12) > 0.9


def test_p_value_and_bound_agree():
    drawn = floors(3)
    floor = NoiseFloor(tuple(drawn[0]), shared=shared_spread(drawn))
    bound = floor.bound(0.002)
    assert floor.p_value(bound * 1.001) < 0.002 < floor.p_value(bound * 0.999)
