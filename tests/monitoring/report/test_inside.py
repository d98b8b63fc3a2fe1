"""The page of exhibits: everything that was found is on it, and nothing of strangers gets out of its place."""

import re

import numpy as np
import pytest

from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_monitoring.report.inside import (
    Inside,
    block_of,
    groups_of,
    panel_picture,
    render_inside,
    total,
    width,
    written,
)

MAPS = tuple(Picture(role, np.arange(16.0).reshape(4, 4) - 8) for role in ("reference", "candidate"))
COUNTS = (Picture("reference", np.array([0, 2, 4])), Picture("candidate", np.array([8, 1, 0])))


def page(rows=(), panels=(), **more) -> str:
    shown = Shown(tuple(rows), ("far",), {}, tuple(panels), **more)
    versions = {"reference": "digits/1", "candidate": "digits/2"}
    return render_inside(Inside(versions, "validation", 12, {"structure": ("Structure", shown)}))


def test_it_is_one_file_that_says_why_it_judges_nothing() -> None:
    text = page([{"layer": "a", "far": {"reference": 1.0, "candidate": 0.25}}], [Panel("a", "channel 3", MAPS)])
    assert "digits/2 beside digits/1" in text
    assert "never enters a verdict" in text
    assert "Geirhos" in text
    assert "<script" not in text
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert re.findall(r"width: ([\d.]+)%", text.partition("<body>")[2]) == ["100.0", "25.0"]
    assert text.count('src="data:image/png') == 2
    assert text == page([{"layer": "a", "far": {"reference": 1.0, "candidate": 0.25}}], [Panel("a", "channel 3", MAPS)])


def test_rows_of_a_large_network_are_gathered_by_blocks_and_what_stands_out_is_open() -> None:
    counts = {"reference": 2, "candidate": 3}
    rows = [{"layer": f"blocks.{n}.{part}", "far": 0.1 * n, "parameters": counts} for n in range(6)
            for part in ("conv", "norm", "act")]  # fmt: skip
    rows[7] |= {"stands_out": True}
    groups = groups_of(rows)
    assert [group.name for group in groups] == [f"blocks.{n}" for n in range(6)]
    assert [group.open for group in groups] == [n == 2 for n in range(6)]
    text = page(rows)
    assert text.count("<details") == 6
    assert text.count('<details class="group" open>') == 1
    assert text.count("STANDS OUT") == 1
    assert "parameters 6 → 9" in text


def test_what_does_not_apply_is_said_in_place_of_a_table() -> None:
    text = page(absent="model digits/2 can only be called")
    assert "Not shown:" in text
    assert "model digits/2 can only be called" in text


def test_names_of_strangers_are_escaped() -> None:
    evil = "<b>\u202elayer</b>"
    text = page([{"layer": evil, "far": 1.0, "images": [evil]}], [Panel(evil, evil, MAPS)], notes=(evil,))
    assert "<b>" not in text
    assert "\u202e" not in text


def test_histograms_and_maps_of_two_versions_are_on_one_scale() -> None:
    text = page([{"layer": "a", "far": 1.0}], [Panel("a", "weights", COUNTS), Panel("b", "all", MAPS)])
    heights = [float(each) for each in re.findall(r"<rect [^>]*height=\"([\d.]+)\"", text)]
    assert heights == [0, 10, 20, 40, 5, 0]
    assert "strongest colour: 8" in text
    assert panel_picture(Panel("a", "weights", COUNTS)) is None
    weak = Panel("a", "maps", (MAPS[0], Picture("candidate", MAPS[1].values / 100)))
    assert panel_picture(weak) != panel_picture(Panel("a", "maps", MAPS))


@pytest.mark.parametrize(
    ("cell", "text"),
    [(1525, "1,525"), (0.12345, "0.123"), (None, "-"), (float("nan"), "-"), ("conv2d", "conv2d"), ([3, 1], "3, 1"),
     ({"reference": 1, "candidate": 1}, "1"), ({"reference": 1, "candidate": 2}, "1 → 2"), (True, "True")],
)  # fmt: skip
def test_cells_are_written_as_people_read_them(cell: object, text: str) -> None:
    assert written(cell) == text


def test_blocks_totals_and_bars() -> None:
    names = {"blocks.0.1.conv": "blocks.0", "layer1.0.conv1": "layer1", "stem.conv": "stem", "bn1": "bn1", "": ""}
    assert {name: block_of(name) for name in names} == names
    assert total([{"far": 0.2}, {"far": None}, {"far": 0.7}], "far") == 0.7
    assert total([{"status": "same"}], "status") == ""
    assert (width(1, 4), width(9, 4), width(1, 0)) == ("25.0", "100.0", "0")
