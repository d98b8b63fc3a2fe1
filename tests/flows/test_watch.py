"""One version on windows of images: a quiet day is quiet, and maps that moved elsewhere are seen."""

from collections.abc import Callable
from dataclasses import replace
from datetime import date

import numpy as np
import pandas as pd
import pytest

from attrail_explainers.errors import ConfigError
from attrail_flows.configuration import read_config
from attrail_flows.inputs.window_dates import windows_of, with_dates
from attrail_flows.watch import compared
from attrail_monitoring.maps.version_maps import VersionMaps

Run = Callable[..., tuple[int, str, str]]
EXPLAINERS = '[[explainer]]\nname = "gradcam"'
WINDOWS = """
[[slice]]
name = "{name}"
source = "slices/validation.csv"
where = "{where}"
"""


@pytest.fixture
def config_file(workplace):
    """Three windows: two of the same kind of image, and one with the classes 0 to 4 alone."""
    slices = "".join(
        WINDOWS.format(name=name, where=where) for name, where in (("later", "label > 4"), ("newest", "label <= 4"))
    )
    return workplace.config(explainers=EXPLAINERS, slice=slices)


def test_windows_are_chosen_by_name_and_in_order(config_file) -> None:
    config = read_config(config_file)
    assert [each.name for each in windows_of(config, ()).slices] == ["validation", "later", "newest"]
    assert [each.name for each in windows_of(config, ("newest", "later")).slices] == ["newest", "later"]
    with pytest.raises(ConfigError, match="no slice 'yesterday'"):
        windows_of(config, ("later", "yesterday"))
    with pytest.raises(ConfigError, match="nothing to compare"):
        windows_of(config, ("later",))


def test_the_command_shows_every_earlier_window(attrail: Run, config_file) -> None:
    status, out, err = attrail("watch", "--config", config_file, "--version", "1")
    assert status in (0, 1), err
    rows = [line for line in out.splitlines() if "newest" in line]
    assert len(rows) == 4, "two earlier windows, two statistics"
    assert any("later and newest, gradcam, mmd" in row for row in rows)
    assert status == any(row.startswith("moved") for row in rows)


def test_one_file_describes_every_days_windows(workplace) -> None:
    week = "where = \"taken >= '{day-7}' and taken < '{day}'\""
    slices = WINDOWS.format(name="newest", where="label > 4").replace("validation.csv", "{day-1}.csv")
    config = with_dates(read_config(workplace.config(slice=week + slices)), date(2026, 3, 3))
    first, newest = config.slices
    assert first.where == "taken >= '2026-02-24' and taken < '2026-03-03'"
    assert first.source.name == "validation.csv"
    assert (newest.source.name, newest.where) == ("2026-03-02.csv", "label > 4")


def test_a_days_images_need_no_labels(attrail: Run, workplace) -> None:
    scans = workplace.folder / "slices"
    unlabelled = pd.read_csv(scans / "validation.csv").drop(columns="label")
    unlabelled.tail(24).to_csv(scans / "2026-03-02.csv", index=False)
    slices = WINDOWS.format(name="newest", where="batch >= 0").replace("validation.csv", "{day-1}.csv")
    config = workplace.config(explainers=EXPLAINERS, slice=slices)
    status, out, err = attrail("watch", "--config", config, "--version", "1", "--day", "2026-03-03")
    assert status in (0, 1), err
    assert "validation and newest" in out
    status, _, err = attrail("watch", "--config", config, "--version", "1", "--day", "2026-03-04")
    assert (status, "2026-03-03.csv does not exist" in err) == (2, True)


def test_maps_elsewhere_are_moved_and_the_same_maps_are_not(config_file, attributions_of) -> None:
    config = windows_of(read_config(config_file), ("later", "newest"))
    later, newest = attributions_of("later", 40, seed=1), attributions_of("newest", 40, seed=2)
    quiet = compared(config, VersionMaps((later, newest)))
    assert not any(row["moved"] for row in quiet)
    elsewhere = replace(newest, values=np.roll(newest.values, 4, axis=2))
    assert all(row["moved"] for row in compared(config, VersionMaps((later, elsewhere))))


@pytest.fixture
def attributions_of():
    from attrail_explainers.attributions import Attributions

    def make(name: str, count: int, seed: int) -> Attributions:
        generator = np.random.default_rng(seed)
        values = generator.random((count, 8, 8)).astype(np.float32)
        values[:, :, :3] += 2
        names = tuple(f"{name}-{row}" for row in range(count))
        targets = np.zeros(count, np.int64)
        return Attributions("gradcam", {"seed": 0}, values, targets, names, name, name, "digits/1", "sha256:0")

    return make
