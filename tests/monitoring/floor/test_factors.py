"""Factors between stand-ins and honest versions: what the zoo wrote down, and bounds that are told by it."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from attrail_monitoring.floor import factors
from attrail_monitoring.floor.calibration import Calibration, calibrate
from attrail_monitoring.floor.factors import Factor, factors_of
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import statistic_names
from attrail_monitoring.maps.strata import is_class
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.verdict.measurement import measure

FACTOR = Factor(log_mean=0.5, log_sd=0.3, freedom=5, lowest=1.0, highest=2.5)
DRAWS = (0.1, 0.12, 0.11, 0.1, 0.13)


def test_every_factor_of_the_zoo_is_about_a_statistic_and_lies_within_what_was_seen():
    for row in factors._rows():
        found = factors_of(row["source"], row["change"], row["explainers"])[row["statistic"]]
        assert row["statistic"] in statistic_names()
        assert found.lowest <= math.exp(found.log_mean) <= found.highest
        assert found.log_sd > 0
        assert found.freedom >= 1


def test_what_was_not_measured_has_no_factor():
    assert factors_of("noise", "architecture") == {}
    assert factors_of("retrains", "retrain") == {}


@pytest.mark.parametrize("alpha", [0.05, 0.004, 1e-4])
def test_a_bound_with_a_factor_is_told_by_the_spread_between_families(alpha):
    """Mean of the draws, times the factor, times what one more family may differ: t with the families' freedom."""
    floor = NoiseFloor(DRAWS, source="noise", factor=FACTOR)
    reach = stats.t(5).isf(alpha) * 0.3 * math.sqrt(1 + 1 / 6)
    bound = floor.bound(alpha)
    assert bound == pytest.approx(math.exp(np.log(DRAWS).mean() + 0.5 + reach))
    assert floor.p_value(bound) == pytest.approx(alpha)
    assert floor.p_value(DRAWS[0]) > 0.5  # as far as noise: honest versions move further still


def test_noise_says_drift_only_where_the_zoo_shows_that_it_may():
    plain = NoiseFloor(DRAWS, source="noise")
    calibrated = replace(plain, factor=FACTOR)
    shown = replace(plain, factor=replace(FACTOR, decides=True))
    assert [each.tier for each in (plain, calibrated, shown)] == ["M"] * 3
    assert [each.may_flag for each in (plain, calibrated, shown)] == [False, False, True]
    assert [NoiseFloor(DRAWS, source=each).may_flag for each in ("retrains", "history", "surrogates")] == [1, 1, 0]
    assert not NoiseFloor(DRAWS[:3]).may_flag
    assert plain.more_needed(0.2, 0.05) is None


def test_a_calibration_of_noise_keeps_its_factors_and_has_no_envelopes(maps, monkeypatch):
    """Noise leaves single images nearer to the reference than honest versions do, and classes were not measured."""
    row = {"source": "noise", "change": "fine-tune", "statistic": "rank_distance"}
    known = {name: getattr(FACTOR, name) for name in Factor.__dataclass_fields__}
    joint = replace(FACTOR, log_sd=0.1)
    rows = (row | known | {"explainers": "each"}, row | known | {"explainers": "together", "log_sd": 0.1})
    monkeypatch.setattr(factors, "_rows", lambda: rows)
    targets = np.arange(60) % 2
    draw = np.random.default_rng(0).normal
    base = draw(size=(60, 8, 8))
    reference, *others = (
        VersionMaps((maps(base + 0.2 * turn * draw(size=(60, 8, 8)), f"net/{turn}", targets=targets),))
        for turn in range(6)
    )
    found = calibrate(reference, others, Settings(grid=4, resamples=50), "noise", change="fine-tune")
    assert not found.envelopes
    assert found.decides("rank_distance")
    assert not found.decides("coherent_shift")  # primary, but the zoo says nothing of it for this change
    assert replace(found, floors={}).decides("coherent_shift")
    hypotheses = {each.statistic for each in measure(reference, others[0], found, Settings(grid=4)) if each.primary}
    assert hypotheses == {"rank_distance"}
    for place, floor in found.floors.items():
        measured = place.statistic == "rank_distance" and not is_class(place.stratum)
        assert (floor.factor, floor.joint) == ((FACTOR, joint) if measured else (None, None))
    again = Calibration.from_document(found.document(), found.arrays)
    assert again == found
    without = found.document()
    for each in without["floors"]:
        del each["factor"], each["joint"]  # as calibrations were kept before there were factors
    assert {each.factor for each in Calibration.from_document(without, {}).floors.values()} == {None}
