"""The table behind a slice: which images, which labels, and everything known about them."""

import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
import pandas as pd

from attrail_explainers.errors import SliceError
from attrail_explainers.files.picture_source import EmbeddedPicture, Picture
from attrail_monitoring.slices.class_folders import named, read_class_folders
from attrail_monitoring.slices.table_file import PICTURES, WRITTEN, FileRows, read_table_file, unpack

MASK = "mask"  # column with a picture that is white where the evidence belongs
PLAIN_NUMBER = r"0|-?[1-9]\d{0,17}"
OWN = ("path", "mask_path")  # columns that the table did not have
SHOWN = 60  # characters of a cell in a message


@dataclass(frozen=True, eq=False)
class SliceTable:
    """Rows of a slice before any image is decoded.

    ``rows`` has the columns ``image`` (as written: the sample id), ``path`` (absolute, or an EmbeddedPicture),
    ``label`` (as written) and whatever else the source has; its index is the row's number in the source, from 1 on.
    ``classes`` are the class folders' names when the source is a folder, ``left_out`` names what is there and was not
    read, ``label_names`` what the file itself calls its whole-number labels; ``labelled`` says whether it has labels.
    """

    name: str
    source: Path
    rows: pd.DataFrame
    classes: tuple[str, ...] = field(default=())
    left_out: tuple[str, ...] = field(default=())
    label_names: tuple[str, ...] = field(default=())
    labelled: bool = True

    @property
    def pictures(self) -> list[Picture]:
        """Where the images are, row by row."""
        return _pictures(self.rows["path"])

    @property
    def masks(self) -> list[Picture] | None:
        """Where the masks are, None for a slice without."""
        return _pictures(self.rows["mask_path"]) if "mask_path" in self.rows else None


def read_slice_table(
    name: str, source: Path, where: str | None = None, limit: int | None = None, *, labelled: bool = True
) -> SliceTable:
    """Read a csv or parquet table, or a folder of class folders; filter by a pandas query and keep the first rows.

    Unless it must be ``labelled``, labels may be missing: nothing asks for them then. Raises SliceError for a missing
    source, a column that is not there, a query that does not hold or keeps nothing, a row without image, label or mask.
    """
    if source.is_dir():
        folder = read_class_folders(name, source, labelled=labelled)
        rows = _kept(name, source, folder.rows, where, limit)
        return SliceTable(name, source, rows, folder.classes, folder.left_out)
    return _read(name, source, read_table_file(name, source), where, limit, labelled=labelled)


def slice_table_of(name: str, source: Path, rows: pd.DataFrame, *, labelled: bool = True) -> SliceTable:
    """A data frame with the columns image and, if ``labelled``, label as the table of a slice.

    ``source`` is what messages call it; images are paths relative to its folder. Raises SliceError as
    ``read_slice_table`` does.
    """
    return _read(name, source, FileRows(rows.reset_index(drop=True)), None, None, labelled=labelled)


def _read(
    name: str, source: Path, found: FileRows, where: str | None, limit: int | None, *, labelled: bool
) -> SliceTable:
    _require_columns(name, source, found.rows, labelled=labelled)
    for column in set(WRITTEN) & set(found.rows.columns):
        found.rows[column] = _written(name, source, found.rows[column])
    has_labels = "label" in found.rows
    found.rows["label"] = _plain_numbers(found.rows["label"]) if has_labels else 0
    alone = bool(found.rows["image"].notna().all()) and found.rows["image"].is_unique
    rows = _with_pictures(name, source, found, _kept(name, source, found.rows, where, limit))
    if "image" in found.embedded and not alone:
        rows["image"] = [f"row {row}" for row in rows.index]
    if labelled and rows["label"].isna().any():
        raise SliceError(f"slice {name!r}: row {_first(rows['label'].isna())} of {source} lacks an image or a label")
    return SliceTable(name, source, rows, (), found.left_out, found.label_names, has_labels)


def label_indices(
    table: SliceTable, classes: Sequence[str], count: int | None = None, labels: pd.Series | None = None
) -> pd.Series:
    """Class index of every row. Names and numbers mean what they say, in tables and in class folders alike.

    ``labels`` are others than the column's, with the numbers of their rows, of which each may have several.

    A label is looked up among the model's ``classes``; a whole number that is no name there is an index, unless the
    model calls a class by another number than its own. Class folders with names are numbered in sorted order, as
    torchvision's ImageFolder does, where the model names no classes and has as many, by ``count``, as there are
    folders. Raises SliceError naming the first row or folder whose label is none of these, or a label that the table
    calls like another class of the model.
    """
    _require_same_names(table, classes)
    known = _known(table, classes, count)
    given = table.rows["label"] if labels is None else labels
    return pd.Series(
        [_index(table, row, label, known) for row, label in given.items()], index=given.index, dtype="int64"
    )


def cautions(table: SliceTable, classes: Sequence[str], count: int | None = None) -> tuple[str, ...]:
    """What a reader should know of how the source was read: what was left out, and whose word the class indices are."""
    found = list(left_out(table))
    if not classes and _in_sorted_order(table):
        known = "as many as the model has" if count is not None else "the model does not say how many it has"
        found.append(
            f"the class folders are classes 0 to {len(table.classes) - 1} in sorted order ({known}), because the model "
            "was logged without class names: log it with them if it was trained in another order"
        )
    elif not classes and any(each != str(place) for place, each in enumerate(table.classes)):
        found.append(
            "the class folders are the class indices that they are called; torchvision's ImageFolder counts them in "
            "another order: log the model with its class names if it was trained so"
        )
    pairs = enumerate(zip(table.label_names, classes, strict=False))
    index = next((index for index, (here, there) in pairs if here != there), None)
    if index is not None:
        found.append(
            f"the table calls label {index} {table.label_names[index]!r}, the model calls class {index} "
            f"{classes[index]!r}: labels that are numbers were taken for the model's classes"
        )
    return tuple(found)


def left_out(table: SliceTable) -> tuple[str, ...]:
    """One sentence with the number and the first names of what was not read, none where everything was."""
    return (f"{len(table.left_out)} left out: {named(table.left_out)}",) if table.left_out else ()


def _require_same_names(table: SliceTable, classes: Sequence[str]) -> None:
    """Raise SliceError when table and model give the same name to different numbers."""
    for label, name in enumerate(table.label_names):
        if name in classes and list(classes).index(name) != label:
            raise SliceError(
                f"slice {table.name!r}: {table.source} calls label {label} {name!r}, which is class "
                f"{list(classes).index(name)} of the model: write the names into its column label"
            )


def _known(table: SliceTable, classes: Sequence[str], count: int | None) -> dict[str, int]:
    """Class index by name."""
    names = [normalize("NFC", str(each)) for each in classes]
    if len(set(names)) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise SliceError(f"slice {table.name!r}: two of the model's classes are called {twice!r}: log it with others")
    if names or not _in_sorted_order(table):
        return {each: index for index, each in enumerate(names)}
    if count not in (None, len(table.classes)):
        raise SliceError(
            f"slice {table.name!r}: {table.source} has {len(table.classes)} class folders ({named(table.classes)}), "
            f"the model has {count} classes without names: log the model with its class names, or call each folder by "
            "its class index"
        )
    return {normalize("NFC", each): index for index, each in enumerate(table.classes)}


def _in_sorted_order(table: SliceTable) -> bool:
    """Whether there are class folders with names, and any number among the names, as in 00 to 11, is its own place."""
    indices = all(re.fullmatch(PLAIN_NUMBER, each) for each in table.classes)
    return not indices and all(int(each) == place for place, each in enumerate(table.classes) if each.isdecimal())


def _index(table: SliceTable, row: object, label: object, known: Mapping[str, int]) -> int:
    text = normalize("NFC", str(label))
    whole = re.sub(r"\.0+$", "", text)
    for each in (text, whole, f"{whole}.0"):
        if each in known:
            return known[each]
    elsewhere = any(each.isdecimal() and int(each) != place for each, place in known.items())
    if re.fullmatch(PLAIN_NUMBER, whole) and not elsewhere:
        return int(whole)
    where = f"class folder {shown(text)}" if table.classes else f"row {row}"
    what = f"{where} of {table.source} " + ("is" if table.classes else f"has the label {shown(text)}, which is")
    names = f" and none of the classes {named(list(known))}" if known else "; the model names no classes"
    raise SliceError(
        f"slice {table.name!r}: {what} no class index{names}: correct it, or log the model with its class names"
    )


def shown(text: str) -> str:
    """A cell for a message."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def _pictures(column: pd.Series) -> list[Picture]:
    return [each if isinstance(each, EmbeddedPicture) else Path(each) for each in column]


def _require_columns(name: str, source: Path, rows: pd.DataFrame, *, labelled: bool) -> None:
    missing = ({"image", "label"} if labelled else {"image"}) - set(rows.columns)
    if missing:
        columns = ", ".join(str(each) for each in rows.columns)
        raise SliceError(f"slice {name!r}: {source} lacks the column {', '.join(sorted(missing))}; it has {columns}")


def _written(name: str, source: Path, cells: pd.Series) -> pd.Series:
    """Cells as text, one value in one spelling however the file holds it: 3, 3.0 and "3" are "3". None is missing."""
    values = list(cells.astype("object"))
    for row, value in enumerate(values, start=1):
        if isinstance(value, bytes | Collection) and not isinstance(value, str):
            kind = type(value).__name__
            raise SliceError(f"slice {name!r}: row {row} of {source} has {kind} as its {cells.name}, expected text")
    return pd.Series([_text(each) for each in values], index=cells.index, dtype="str")


def _text(cell: Any) -> str | None:
    """A cell as text, whole numbers without a point; None where it is missing."""
    if pd.isna(cell):
        return None
    if isinstance(cell, float | np.floating | Decimal) and cell == cell // 1:
        return str(int(cell))
    return str(cell)


def _plain_numbers(labels: pd.Series) -> pd.Series:
    """Labels as integers when all are written as such; "007" is a name, and no label is class 7 by accident.

    CSV files that pandas wrote hold 3.0 where a row had no label.
    """
    numbers = labels.str.replace(rf"^({PLAIN_NUMBER})\.0+$", r"\1", regex=True)
    given = numbers.dropna()
    whole = given.str.fullmatch(PLAIN_NUMBER).all() if len(given) else False
    return numbers.astype("Int64" if len(given) < len(labels) else "int64") if whole else labels


def _kept(name: str, source: Path, rows: pd.DataFrame, where: str | None, limit: int | None) -> pd.DataFrame:
    """The rows that the slice is of, by the numbers that they have in the source."""
    rows.index = pd.RangeIndex(1, len(rows) + 1, name="row")
    if where is not None:
        rows = _filtered(name, rows, where)
    rows = rows.head(limit) if limit is not None else rows
    if rows.empty:
        because = f" after where = {where!r}" if where else ""
        raise SliceError(f"slice {name!r}: {source} has no rows{because}; nothing can be audited")
    return rows.copy()


def _with_pictures(name: str, source: Path, found: FileRows, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the places of their images and masks."""
    for column, place in zip(PICTURES, OWN, strict=True):
        if column in rows:
            held = unpack(name, source, column, rows.index) if column in found.embedded else [None] * len(rows)
            rows[place] = _places(name, source, rows[column], held)
    if MASK in rows:
        _require_masks(name, source, rows["mask_path"])
    return rows


def _places(name: str, source: Path, paths: pd.Series, held: Sequence[EmbeddedPicture | None]) -> pd.Series:
    """Where a column's pictures are: in the table, else beside it; every row must have one."""
    blank = paths.isna() & pd.Series([each is None for each in held], index=paths.index)
    if blank.any():
        lacking = "needs the mask of its image" if paths.name == MASK else "lacks an image or a label"
        raise SliceError(f"slice {name!r}: row {_first(blank)} of {source} {lacking}")
    folder = source.parent.absolute()
    places = [picture or str(folder / path) for path, picture in zip(paths, held, strict=True)]
    return pd.Series(places, index=paths.index, dtype="object")


def _require_masks(name: str, source: Path, masks: pd.Series) -> None:
    for row, place in masks.items():
        if isinstance(place, str) and not os.path.isfile(place):
            raise SliceError(
                f"slice {name!r}: row {row} of {source} needs the mask of its image: there is no file {shown(place)}; "
                "give every row one, or leave the column out"
            )


def _first(rows: pd.Series) -> object:
    """The number of the first row for which it is true."""
    return rows.index[int(rows.to_numpy().argmax())]


def _filtered(name: str, rows: pd.DataFrame, where: str) -> pd.DataFrame:
    columns = ", ".join(column for column in rows.columns if column not in OWN)
    try:
        keep = rows.eval(where, engine="python")
    except Exception as error:  # pandas lets any Python error of the expression through
        raise SliceError(f"slice {name!r}: where = {where!r} cannot be applied: {error}; columns: {columns}") from error
    if not isinstance(keep, pd.Series) or not pd.api.types.is_bool_dtype(keep):
        raise SliceError(f"slice {name!r}: where = {where!r} cannot be applied: it is no condition; columns: {columns}")
    return rows[keep.fillna(False)]
