"""Questions: what a slice's table asks of each image where that is no single label, one row for each question."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrail_explainers.errors import SliceError
from attrail_explainers.files.index_mask import IGNORED, classes_in, read_indices
from attrail_explainers.files.picture_source import Picture
from attrail_explainers.slice import NONE, Questions, told_apart
from attrail_monitoring.slices.boxes import BOXES, boxes_of
from attrail_monitoring.slices.slice_table import SliceTable, label_indices, shown

if TYPE_CHECKING:
    from attrail_explainers.model.task import Task

JOINED = re.compile(r"\s*;\s*")  # labels, and numbers of a vector, in one cell


def questions(table: SliceTable, task: "Task", classes: Sequence[str], count: int | None = None) -> Questions:
    """What a table asks for a task whose questions are no single labels; SliceError names the first row that is wrong.

    ``classes`` are the names of the model's answers, and ``count`` how many there are, where these are known.
    """
    return READERS[task.asks_by](table, task, classes, count)


def _labels(table: SliceTable, task: "Task", classes: Sequence[str], count: int | None) -> Questions:
    """A row for each label that an image has, and for each that is asked of all."""
    columns, ask = getattr(task, "columns", ()), getattr(task, "ask", ())
    there = _flagged(table, columns) if columns else _written(table)
    pairs = [(row, label, True) for row, own in there for label in own]
    pairs += [(row, label, False) for row, own in there for label in ask if label not in own]
    if not pairs:
        raise SliceError(f"slice {table.name!r}: no image of {table.source} has a label: there is nothing to explain")
    order = {row: place for place, row in enumerate(table.rows.index)}
    written = pd.Series([label for _, label, _ in pairs], index=[row for row, _, _ in pairs])
    indices = label_indices(table, classes, count, written)
    _require_labels(table, indices, count)
    found = sorted({
        (order[row], int(index), present) for (row, _, present), index in zip(pairs, indices, strict=True)
    })  # fmt: skip
    places, labels, present = (np.array(each) for each in zip(*found, strict=True))
    return Questions(places, labels, {"present": present}, _names(labels, classes))


def _require_labels(table: SliceTable, indices: pd.Series, count: int | None) -> None:
    unknown = indices < 0 if count is None else (indices < 0) | (indices >= count)
    if unknown.any():
        place = int(unknown.to_numpy().argmax())
        raise SliceError(
            f"slice {table.name!r}: row {indices.index[place]} of {table.source} has the label {indices.iloc[place]}, "
            f"the model knows {'0 and up' if count is None else f'0..{count - 1}'}; correct the table"
        )


def _written(table: SliceTable) -> list[tuple[Any, list[str]]]:
    """Each row's labels, joined by semicolons in its column ``labels``; an empty cell is an image without any."""
    cells = _column(table, "labels", "the labels of its images, joined by semicolons, or set the task's columns")
    return [(row, list(dict.fromkeys(_parts(cell)))) for row, cell in cells.items()]


def _flagged(table: SliceTable, columns: Sequence[str]) -> list[tuple[Any, list[str]]]:
    """Each row's labels by ``columns`` of 0 and 1, which are called as the labels are."""
    flags = {name: _column(table, name, "1 where an image has that label and 0 where it has not") for name in columns}
    for name, cells in flags.items():
        numbers = pd.to_numeric(cells, errors="coerce")
        wrong = ~numbers.isin([0, 1])
        if wrong.any():
            row = cells.index[int(wrong.to_numpy().argmax())]
            raise SliceError(
                f"slice {table.name!r}: row {row} of {table.source} has {shown(str(cells[row]))} in column {name}, "
                "expected 1 where the image has that label and 0 where it has not"
            )
    return [(row, [name for name in columns if float(flags[name][row]) == 1]) for row in table.rows.index]


def _zones(table: SliceTable, task: "Task", classes: Sequence[str], count: int | None) -> Questions:
    """A row for each class that is named for an image, with its zone in the image's mask, where there are masks.

    Without masks the reference finds the zones, and the classes, too, where none are named. Masks without names are
    asked about each class that takes up the task's share of the image.
    """
    named = _named_classes(table, task, classes, count)
    if table.masks is None:
        return _one_each(table) if named is None else _about(named, classes)
    masks = [read_indices(each) for each in table.masks]
    held = [set(np.unique(each).tolist()) for each in masks]
    if all(each <= {0, IGNORED} for each in held) and any(IGNORED in each for each in held):
        return _white_zones(table, named, classes)
    _require_indices(table, held, count)
    share = getattr(task, "share", 0.0)
    found = named or [(place, label) for place, mask in enumerate(masks) for label in classes_in(mask, share)]
    if not found:
        raise SliceError(f"slice {table.name!r}: no mask of {table.source} shows a class: there is nothing to explain")
    return _about(found, classes, [(table.masks[place], label) for place, label in found])


def _named_classes(
    table: SliceTable, task: "Task", classes: Sequence[str], count: int | None
) -> list[tuple[int, int]] | None:
    """Places of images in the table and the classes that are named for them; None where nothing names any."""
    ask = getattr(task, "ask", ())
    if "class" in table.rows:
        cells = [(row, list(dict.fromkeys(_parts(cell)))) for row, cell in table.rows["class"].items()]
    elif ask:
        cells = [(row, list(ask)) for row in table.rows.index]
    else:
        return None
    pairs = [(row, each) for row, own in cells for each in own]
    if not pairs:
        raise SliceError(f"slice {table.name!r}: the column class of {table.source} names no class")
    order = {row: place for place, row in enumerate(table.rows.index)}
    indices = label_indices(
        table, classes, count, pd.Series([each for _, each in pairs], index=[row for row, _ in pairs])
    )
    _require_labels(table, indices, count)
    return sorted({(order[row], int(index)) for (row, _), index in zip(pairs, indices, strict=True)})


def _white_zones(table: SliceTable, named: Sequence[tuple[int, int]] | None, classes: Sequence[str]) -> Questions:
    """Zones of masks that are black and white: each white place is of the one class that is named for its image."""
    if named is None:
        raise SliceError(
            f"slice {table.name!r}: the masks of {table.source} hold 0 and {IGNORED} alone: say which class is "
            "white by a column class, or by the task's ask"
        )
    places = [place for place, _ in named]
    twice = next((place for place in places if places.count(place) > 1), None)
    if twice is not None:
        raise SliceError(
            f"slice {table.name!r}: row {table.rows.index[twice]} of {table.source} names several classes, and its "
            f"mask holds 0 and {IGNORED} alone, which shows one: name one, or write class indices into the masks"
        )
    masks = table.masks or []
    return _about(named, classes, [(masks[place], IGNORED) for place in places])


def _require_indices(table: SliceTable, held: Sequence[set[int]], count: int | None) -> None:
    """Raise SliceError, naming row and file, for a number in a mask that is no class of the model."""
    for place, numbers in enumerate(held):
        unknown = sorted(each for each in numbers if each != IGNORED and (each < 0 or each >= (count or each + 1)))
        if unknown:
            known = "0 and up" if count is None else f"0..{count - 1}"
            mask = (table.masks or [])[place]
            raise SliceError(
                f"slice {table.name!r}: row {table.rows.index[place]} of {table.source}: its mask {mask} holds the "
                f"class index {unknown[0]}, the model knows {known} and {IGNORED}, which is no class; correct it"
            )


def _about(
    found: Sequence[tuple[int, int]], classes: Sequence[str], masks: Sequence[tuple[Picture, int]] | None = None
) -> Questions:
    """Questions about classes of images, by pairs of an image's place and a class."""
    places, labels = np.array(found, dtype=np.int64).T
    return Questions(places, labels, names=_names(labels, classes), masks=None if masks is None else tuple(masks))


def _names(labels: NDArray[np.int64], classes: Sequence[str]) -> tuple[str, ...]:
    return tuple(classes[label] if label < len(classes) else str(label) for label in labels)


def _values(table: SliceTable, task: "Task", classes: Sequence[str], count: int | None) -> Questions:
    """One row for each image, with the number that would be right in the column ``value``, where there is one."""
    if "value" not in table.rows:
        return _one_each(table)
    values = pd.to_numeric(table.rows["value"], errors="coerce")
    wrong = ~np.isfinite(values.to_numpy(dtype=np.float64))
    if wrong.any():
        row = values.index[int(wrong.argmax())]
        raise SliceError(
            f"slice {table.name!r}: row {row} of {table.source} has the value "
            f"{shown(str(table.rows['value'][row]))}, which is no number: correct it, or leave the column out"
        )
    return _one_each(table, {"value": values.to_numpy(dtype=np.float64)})


def _queries(table: SliceTable, task: "Task", classes: Sequence[str], count: int | None) -> Questions:
    """One row for each image, with the vector in its column ``query``, where there is one, and its label, if any."""
    labels = _known_labels(table, classes, count)
    if "query" not in table.rows:
        return _one_each(table, labels=labels)
    vectors = [_vector(table, row, cell) for row, cell in table.rows["query"].items()]
    if len({len(each) for each in vectors}) > 1:
        raise SliceError(f"slice {table.name!r}: the column query of {table.source} holds vectors of different lengths")
    return _one_each(table, {"query": np.array(vectors, dtype=np.float32)}, labels)


def _boxes(table: SliceTable, task: "Task", classes: Sequence[str], count: int | None) -> Questions:
    """A row for each box in the column ``boxes``, with its corners in pixels of the picture (N,4).

    Without that column it is left open which boxes: one row for each image.
    """
    if BOXES not in table.rows:
        return _one_each(table)
    form = getattr(task, "format", "xyxy")
    own = [boxes_of(table, row, cell, form) for row, cell in table.rows[BOXES].items()]
    found = [(row, box) for row, boxes in zip(table.rows.index, own, strict=True) for box in boxes]
    if not found:
        raise SliceError(f"slice {table.name!r}: no image of {table.source} has a box: there is nothing to explain")
    written = pd.Series([box.label for _, box in found], index=[row for row, _ in found])
    labels = label_indices(table, classes, count, written)
    _require_labels(table, labels, count)
    places = np.repeat(np.arange(len(own)), [len(boxes) for boxes in own])
    called = pd.Series([classes[label] if label < len(classes) else str(label) for label in labels])
    names = called.groupby(places).transform(lambda each: pd.Series(told_apart(each), index=each.index))
    corners = np.array([box.corners for _, box in found], dtype=np.float64)
    return Questions(places, labels.to_numpy(dtype=np.int64), {"box": corners}, tuple(names))


def _known_labels(table: SliceTable, classes: Sequence[str], count: int | None) -> NDArray[np.int64]:
    """What images show, in numbers of their own where the model names nothing: they tell like from unlike."""
    written = table.rows["label"].astype("str") if "label" in table.rows else None
    if written is None or not table.labelled:
        return np.full(len(table.rows), NONE, dtype=np.int64)
    codes, _ = pd.factorize(written, sort=True)
    return np.asarray(codes, dtype=np.int64)


def _vector(table: SliceTable, row: object, cell: Any) -> list[float]:
    try:
        found = [float(each) for each in _parts(cell)]
    except ValueError:
        found = []
    if not found or not np.isfinite(found).all():
        raise SliceError(
            f"slice {table.name!r}: row {row} of {table.source} has {shown(str(cell))} as its query, expected numbers "
            "joined by semicolons"
        )
    return found


def _one_each(
    table: SliceTable, facts: Mapping[str, NDArray[Any]] | None = None, labels: NDArray[np.int64] | None = None
) -> Questions:
    count = len(table.rows)
    none = np.full(count, NONE, dtype=np.int64)
    return Questions(np.arange(count), none if labels is None else labels, facts or {})


def _column(table: SliceTable, name: str, expected: str) -> pd.Series:
    if name not in table.rows:
        columns = ", ".join(str(each) for each in table.rows.columns)
        raise SliceError(
            f"slice {table.name!r}: {table.source} lacks the column {name} with {expected}; it has {columns}"
        )
    return table.rows[name]


def _parts(cell: Any) -> Iterator[str]:
    """What a cell holds: a list, or text with semicolons; nothing where it is empty."""
    if isinstance(cell, list | tuple | np.ndarray):
        yield from (str(each) for each in cell)
    elif not pd.isna(cell):
        yield from filter(None, JOINED.split(str(cell).strip()))


Reader = Callable[[SliceTable, "Task", Sequence[str], int | None], Questions]
READERS: Mapping[str, Reader] = {
    "labels": _labels,
    "value": _values,
    "query": _queries,
    "boxes": _boxes,
    "zones": _zones,
}
