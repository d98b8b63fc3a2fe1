"""Boxes of objects as a slice's table has them: in cells of its column ``boxes``, or in a file in COCO's format."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from attrail_explainers.errors import SliceError
from attrail_explainers.parameters import is_number
from attrail_monitoring.slices.slice_table import SliceTable, shown

BOXES = "boxes"  # the column
COCO = "bbox"  # x, y, width and height whatever the format, as in COCO's files
EXPECTED = 'expected {"box": [four numbers], "class": name or number}, or the five in a list, for each object'


@dataclass(frozen=True)
class Box:
    """Left, top, right and lower edge in pixels of the picture, and the class as it is written."""

    corners: tuple[float, float, float, float]
    label: str


def boxes_of(table: SliceTable, row: Any, cell: Any, form: str) -> list[Box]:
    """The boxes in a cell, which is a list or JSON of one, none where it is empty; ``form`` is xyxy or xywh.

    Each is a dict of ``box`` and ``class``, a list of these five, or has COCO's ``bbox``, which is xywh always. Raises
    SliceError, naming the row, for anything else, and for a box without an extent.
    """
    return [_box(table, row, each, form) for each in _items(table, row, cell)]


def with_coco_boxes(table: SliceTable, path: Path, *, named: bool) -> SliceTable:
    """The table with its boxes from a file in COCO's format, found by the images' file names.

    Classes are called as its categories are, or by these numbers where the model names none (not ``named``). Crowds
    (``iscrowd``) are no objects and left out. Raises SliceError for a file that is not in COCO's format or lacks an
    image of the table, and where the table has boxes of its own.
    """
    if BOXES in table.rows:
        raise SliceError(
            f"slice {table.name!r}: {table.source} has a column boxes of its own: remove coco, or the column"
        )
    images, objects = _coco(table.name, path, named=named)
    by_file: dict[str, list[Any]] = defaultdict(list)
    for name, image in images.items():
        by_file[PurePosixPath(name).name].append(image)
    cells = []
    for row, written in table.rows["image"].items():
        found = [images[str(written)]] if str(written) in images else by_file[PurePosixPath(str(written)).name]
        if len(found) != 1:
            said = "lists no image of that name" if not found else f"lists {len(found)} images of that name"
            raise SliceError(
                f"slice {table.name!r}: row {row} of {table.source} names the image {shown(str(written))}, {path} "
                f"{said}"
            )
        cells.append(objects[found[0]])
    return replace(table, rows=table.rows.assign(**{BOXES: pd.Series(cells, index=table.rows.index, dtype="object")}))


def _coco(name: str, path: Path, *, named: bool) -> tuple[dict[str, Any], dict[Any, list[dict[str, Any]]]]:
    """The ids of images by their file names, and the objects by the ids of their images."""
    try:
        document = json.loads(path.read_bytes())
        called = {each["id"]: str(each["name"]) for each in document["categories"]}
        images = {str(each["file_name"]): each["id"] for each in document["images"]}
        objects: dict[Any, list[dict[str, Any]]] = defaultdict(list)
        for each in document["annotations"]:
            if not each.get("iscrowd"):
                label = called[each["category_id"]] if named else str(each["category_id"])
                objects[each["image_id"]].append({COCO: each["bbox"], "class": label})
    except OSError as error:
        raise SliceError(f"slice {name!r}: {path} cannot be read: {error}") from error
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise SliceError(
            f"slice {name!r}: {path} is no file in COCO's format ({type(error).__name__}: {shown(str(error))}): "
            "expected images (id, file_name), categories (id, name) and annotations (image_id, category_id, bbox)"
        ) from error
    return images, objects


def _items(table: SliceTable, row: Any, cell: Any) -> Sequence[Any]:
    if isinstance(cell, str):
        try:
            cell = json.loads(cell) if cell.strip() else []
        except (ValueError, RecursionError) as error:
            raise _wrong(table, row, cell) from error
    if isinstance(cell, list | tuple | np.ndarray):
        return list(cell)
    if isinstance(cell, Mapping) or not (pd.isna(cell) or cell == ""):
        raise _wrong(table, row, cell)
    return []


def _box(table: SliceTable, row: Any, item: Any, form: str) -> Box:
    if isinstance(item, Mapping) and "class" in item and ("box" in item) != (COCO in item):
        form = form if "box" in item else "xywh"
        given, label = item.get("box", item.get(COCO)), item["class"]
    elif isinstance(item, list | tuple | np.ndarray) and len(item) == 5:
        given, label = item[:4], item[4]
    else:
        raise _wrong(table, row, item)
    numbers = list(given) if isinstance(given, list | tuple | np.ndarray) else []
    if len(numbers) != 4 or not all(map(is_number, numbers)) or isinstance(label, bool | list | dict | None):
        raise _wrong(table, row, item)
    x, y, right, lower = (float(each) for each in numbers)
    if form == "xywh":
        right, lower = x + right, y + lower
    if right <= x or lower <= y:
        advice = 'set the task\'s format to "xywh" if these are' if form == "xyxy" else "these are taken for"
        raise SliceError(
            f"slice {table.name!r}: row {row} of {table.source} has the box {shown(str(numbers))}, which has no extent "
            f"as {form}: correct it; {advice} x, y, width and height"
        )
    return Box((x, y, right, lower), str(label))


def _wrong(table: SliceTable, row: Any, found: Any) -> SliceError:
    return SliceError(
        f"slice {table.name!r}: row {row} of {table.source} has {shown(str(found))} among its boxes, {EXPECTED}"
    )
