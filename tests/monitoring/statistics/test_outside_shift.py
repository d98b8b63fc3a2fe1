"""Mass outside the region where the evidence belongs."""

import numpy as np
import pytest

from attrail_monitoring.floor.calibration import calibrate
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.verdict.measurement import measure

SETTINGS = Settings(grid=4, resamples=50)


def half_and_half(share):
    """Maps (5,8,8) with ``share`` of their mass in the right half."""
    values = np.empty((5, 8, 8), dtype=np.float32)
    values[:, :, :4], values[:, :, 4:] = 1 - share, -share  # the sign does not matter
    return values


def found(maps, first, second, regions):
    versions = [
        VersionMaps((maps(half_and_half(share), model),), regions=regions)
        for share, model in ((first, "net/1"), (second, "net/2"))
    ]
    measured = measure(*versions, calibrate(versions[0], [], SETTINGS), SETTINGS)
    return {each.statistic: each for each in measured}


def test_it_is_the_change_of_the_mean_share_outside(maps):
    left = np.zeros((5, 12, 12), dtype=bool)
    left[:, :, :6] = True
    measured = found(maps, 0.2, 0.7, {"all": left})["outside_shift"]
    assert measured.value == pytest.approx(0.5, abs=1e-6)
    assert not measured.primary
    assert found(maps, 0.7, 0.2, {"all": left})["outside_shift"].value == pytest.approx(0.5, abs=1e-6)
    assert found(maps, 0.7, 0.7, {"all": left})["outside_shift"].value == 0


def test_without_regions_it_is_not_measured(maps):
    assert "outside_shift" not in found(maps, 0.2, 0.7, {})


def test_cells_that_a_region_covers_in_part_count_in_part(maps):
    third = np.zeros((5, 8, 8), dtype=bool)
    third[:, :, :3] = True  # one and a half of four columns of cells
    measured = found(maps, 0.0, 1.0, {"all": third})["outside_shift"]
    assert measured.value == pytest.approx(0.75, abs=1e-6)
