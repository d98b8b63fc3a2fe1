"""The page of what is inside a version, or what changed inside between two: exhibits for a reader with a browser.

An exhibit's tables and panels are drawn alike, whatever the exhibit: one that is added needs nothing here. Pictures are
gathered by layer, so that a reader finds in one place all that is shown of it; those of an exhibit that is about one
layer alone, or about none, stand under its table.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_monitoring.pictures.overlays import Pixels, Scale, data_uri, fit, heatmap, png, shared_scale
from attrail_monitoring.report.report import FOLDER, _environment

SIDE = 112  # pixels of the longer side of a picture
COLOURS = 64  # of a photograph: half the bytes, hardly less to see
GAP = 6  # white pixels between the pictures of a panel in one file
LONGEST = 14  # rows of a table that stand open
OPEN = 4  # blocks that stand open, where something in them stands out
BLOCK = re.compile(r"(?:[^.]+\.)*?[^.]*\d+(?=\.|$)")  # a layer's name as far as its first number


@dataclass(frozen=True)
class Inside:
    """What is shown: the versions' labels by role, the slice, and each exhibit's title and findings by its name."""

    versions: Mapping[str, str]
    slice_name: str
    images: int
    exhibits: Mapping[str, tuple[str, Shown]]

    @property
    def title(self) -> str:
        """Return what the page is about."""
        *reference, version = self.versions.values()
        return f"{version}{' beside ' + reference[0] if reference else ''}"


@dataclass(frozen=True)
class DrawnPicture:
    """A picture as the page has it: an address, or the bars of a histogram as shares of the highest one."""

    caption: str
    address: str | None
    bars: tuple[float, ...] = ()


@dataclass(frozen=True)
class DrawnPanel:
    """The pictures of a panel, and what the strongest colour of its maps stands for."""

    title: str
    pictures: tuple[DrawnPicture, ...]
    limit: float | None


@dataclass(frozen=True)
class Group:
    """Rows of a table that belong together, with what their block comes to; ``open`` where one of them stands out."""

    name: str
    rows: Sequence[Mapping[str, Any]]
    open: bool


def render_inside(inside: Inside) -> str:
    """The page as HTML in one file: no script, no network, no other file; the same exhibits give the same text."""
    layers: dict[str, list[tuple[str, DrawnPanel]]] = {}
    loose: dict[str, list[DrawnPanel]] = {}
    for name, (title, shown) in inside.exhibits.items():
        drawn = [(panel.layer, _drawn(panel)) for panel in shown.panels]
        if len({layer for layer, _ in drawn}) <= 1:
            loose[name] = [panel for _, panel in drawn]
            continue
        for layer, panel in drawn:
            layers.setdefault(layer, []).append((title, panel))
    order = _layer_order(inside, layers)
    page = _environment(FOLDER).get_template("inside.html")
    return page.render(
        inside=inside,
        layers=_by_block({name: _by_title(layers[name]) for name in order}),
        loose=loose,
        groups={name: groups_of(shown.rows) for name, (_, shown) in inside.exhibits.items()},
        columns={name: columns_of(shown.rows) for name, (_, shown) in inside.exhibits.items()},
        tops={name: _tops(shown) for name, (_, shown) in inside.exhibits.items()},
        written=written,
        total=total,
        width=width,
        longest=LONGEST,
    )


def panel_picture(panel: Panel) -> bytes | None:
    """The maps and pixels of a panel beside each other, as a PNG file; None where it has histograms alone."""
    scale = _scale(panel)
    tiles = [_pixels(each, scale) for each in panel.pictures if each.values.ndim > 1]
    if not tiles:
        return None
    height = max(each.shape[0] for each in tiles)
    padded = []
    for each in tiles:
        tile = np.full((height, each.shape[1] + GAP, 3), 255, dtype=np.uint8)
        tile[: each.shape[0], : each.shape[1]] = each
        padded.append(tile)
    return png(np.concatenate(padded, axis=1)[:, :-GAP])


def groups_of(rows: Sequence[Mapping[str, Any]]) -> list[Group]:
    """The rows of a table by the blocks of the network that their layers are in, where there are many of them."""
    if len(rows) <= LONGEST or any("layer" not in row for row in rows):
        return [Group("", rows, open=len(rows) <= LONGEST)]
    found: list[tuple[str, list[Mapping[str, Any]]]] = []
    for row in rows:
        name = block_of(row["layer"])
        if not found or found[-1][0] != name:
            found.append((name, []))
        found[-1][1].append(row)
    out = [any(row.get("stands_out") for row in each) for _, each in found]
    return [Group(name, each, far and sum(out) <= OPEN) for (name, each), far in zip(found, out, strict=True)]


def block_of(layer: str) -> str:
    """The block that a layer is in: its name as far as the first number, or else as the first dot."""
    found = BLOCK.match(layer)
    return found.group() if found else layer.partition(".")[0]


def columns_of(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The columns of a table, in the order in which its rows name them."""
    return list(dict.fromkeys(key for row in rows for key in row if key != "stands_out"))


def numbers_in(cell: Any) -> list[float]:
    """The numbers of a cell: one, or one for each version."""
    each = cell.values() if isinstance(cell, Mapping) else [cell]
    return [float(value) for value in each if isinstance(value, int | float) and not isinstance(value, bool)]


def written(cell: Any) -> str:
    """A cell as text: one value where the versions agree, else the reference's and the candidate's."""
    if isinstance(cell, Mapping):
        texts = [written(each) for each in cell.values()]
        return texts[0] if len(set(texts)) == 1 else " → ".join(texts)
    if isinstance(cell, Sequence) and not isinstance(cell, str):
        return ", ".join(written(each) for each in cell)
    if cell is None or (isinstance(cell, float) and not np.isfinite(cell)):
        return "-"
    if isinstance(cell, int) and not isinstance(cell, bool):
        return f"{cell:,}"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def total(rows: Sequence[Mapping[str, Any]], column: str) -> Any:
    """What a column comes to in a block: the sum of counts, the largest of other numbers, nothing of words."""
    cells = [row[column] for row in rows if numbers_in(row.get(column))]
    if not cells:
        return ""
    if isinstance(cells[0], Mapping) and all(isinstance(each, int) for cell in cells for each in cell.values()):
        roles = list(dict.fromkeys(role for cell in cells for role in cell))
        return {role: sum(cell.get(role, 0) for cell in cells) for role in roles}
    return max(number for cell in cells for number in numbers_in(cell))


def width(value: float, top: float) -> str:
    """The length of a bar, in percent of the longest one."""
    return f"{100 * min(max(value / top, 0.0), 1.0):.1f}" if top > 0 else "0"


def _tops(shown: Shown) -> dict[str, float]:
    """The largest number of each column that is drawn as bars, over all rows and versions."""
    found = {name: [value for row in shown.rows for value in numbers_in(row.get(name))] for name in shown.bars}
    return {name: max([each for each in values if np.isfinite(each)], default=0.0) for name, values in found.items()}


def _layer_order(inside: Inside, layers: Iterable[str]) -> list[str]:
    """Layers in the order of the network, where an exhibit's table has it."""
    tables = [[row["layer"] for row in shown.rows if "layer" in row] for _, shown in inside.exhibits.values()]
    known = max(tables, key=len, default=[])
    wanted = list(layers)
    return [name for name in dict.fromkeys(known) if name in wanted] + [name for name in wanted if name not in known]


def _by_block(layers: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name, each in layers.items():
        found.setdefault(block_of(name), {})[name] = each
    return found


def _by_title(panels: Iterable[tuple[str, DrawnPanel]]) -> dict[str, list[DrawnPanel]]:
    found: dict[str, list[DrawnPanel]] = {}
    for title, panel in panels:
        found.setdefault(title, []).append(panel)
    return found


def _scale(panel: Panel) -> Scale:
    """The one scale of a panel's maps."""
    maps = [np.asarray(each.values, dtype=np.float64) for each in panel.pictures if each.values.ndim == 2]
    return shared_scale(*maps) if maps else Scale(0.0, signed=False)


def _pixels(picture: Picture, scale: Scale) -> Pixels:
    return fit(heatmap(picture.values, scale) if picture.values.ndim == 2 else picture.values, SIDE)


def _drawn(panel: Panel) -> DrawnPanel:
    scale = _scale(panel)
    highest = max((int(each.values.max()) for each in panel.pictures if each.values.ndim == 1), default=0) or 1
    drawn = []
    for each in panel.pictures:
        if each.values.ndim == 1:
            drawn.append(DrawnPicture(each.caption, None, tuple(float(count) / highest for count in each.values)))
        else:
            drawn.append(DrawnPicture(each.caption, data_uri(png(_pixels(each, scale), COLOURS))))
    coloured = any(each.values.ndim == 2 for each in panel.pictures)
    return DrawnPanel(panel.title, tuple(drawn), scale.limit if coloured else None)
