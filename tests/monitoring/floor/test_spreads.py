"""Spreads of honest models that the zoo wrote down, and the bounds of a few models that they help along."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from attrail_monitoring.floor.calibration import Calibration, calibrate
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.floor.spreads import MOST, spreads_of
from attrail_monitoring.inference.shared_spread import SharedSpread
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import make_statistic
from attrail_monitoring.maps.strata import HEADLINES
from attrail_monitoring.maps.version_maps import VersionMaps

SETTINGS = Settings(grid=4, resamples=50)
DISTANCES = (0.2, 0.31, 0.14, 0.25, 0.22)


def test_a_bound_is_told_by_the_floors_own_spread_and_the_zoos():
    """Both variances weighed by their degrees of freedom, of which there are then more (Smyth 2004, equation 3)."""
    floor = NoiseFloor(DISTANCES, shared=SharedSpread(0.04, 4))
    logs = np.log(DISTANCES)
    spread = np.sqrt((4 * 0.04 + 4 * logs.var(ddof=1)) / 8 * 1.2)
    assert floor.bound(0.002) == pytest.approx(np.exp(logs.mean() + stats.t(8).isf(0.002) * spread))
    alone = replace(floor, shared=None)
    assert floor.bound(0.002) < 0.7
    assert alone.bound(0.002) > 1
    assert floor.more_needed(0.6, 0.002) < alone.more_needed(0.6, 0.002)


def test_it_holds_the_level_where_floors_scatter_as_the_zoo_says_and_nearly_so_where_they_scatter_more():
    generator, level = np.random.default_rng(0), 0.02
    for sd, most in ((0.2, 1.4 * level), (0.3, 2.5 * level)):
        drawn = np.exp(generator.normal(-1, sd, (2000, 6)))
        floors = (NoiseFloor(tuple(row[:5]), shared=SharedSpread(0.04, MOST)) for row in drawn)
        beyond = [row[5] > floor.bound(level) for row, floor in zip(drawn, floors, strict=True)]
        assert np.mean(beyond) < most


def test_every_spread_of_the_zoo_is_about_a_primary_statistic_and_counts_for_five_models_at_most():
    assert spreads_of("retrains").keys() == {"coherent_shift", "rank_distance"}
    for name, spread in spreads_of("retrains").items():
        assert make_statistic(name).primary
        assert 0.01 < spread.variance**0.5 < 1
        assert 0 < spread.freedom <= 4
    for other in ("history", "surrogates", "repeats", "noise"):
        assert spreads_of(other) == {}


def test_whole_slices_of_retrains_have_it_and_it_is_kept(maps):
    draw, targets = np.random.default_rng(0).normal, np.arange(60) % 2
    base = draw(size=(60, 8, 8))
    versions = [
        VersionMaps((maps(base + 0.2 * turn * draw(size=(60, 8, 8)), f"net/{turn}", targets=targets),))
        for turn in range(6)
    ]
    found = calibrate(versions[0], versions[1:], SETTINGS)
    for place, floor in found.floors.items():
        if place.stratum in HEADLINES:
            assert floor.shared == spreads_of("retrains").get(place.statistic)
    assert Calibration.from_document(found.document(), found.arrays) == found
    history = calibrate(versions[0], versions[1:], SETTINGS, "history")
    assert {floor.shared for place, floor in history.floors.items() if place.stratum in HEADLINES} == {None}
