"""The table behind a slice: which images, which labels, and everything known about them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from attrail_explainers.errors import SliceError

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
MASK = "mask"  # column with a picture that is white where the evidence belongs
PLAIN_NUMBER = r"0|-?[1-9]\d{0,17}"


@dataclass(frozen=True, eq=False)
class SliceTable:
    """Rows of a slice before any image is decoded.

    ``rows`` has the columns ``image`` (as written: the sample id), ``path`` (absolute), ``label`` (as written) and
    whatever else the source has; its index is the row's number in the source, counted from 1. ``classes`` are the
    class folders' names when the source is a folder.
    """

    name: str
    source: Path
    rows: pd.DataFrame
    classes: tuple[str, ...] = field(default=())


def read_slice_table(
    name: str, source: Path, where: str | None = None, limit: int | None = None, *, labelled: bool = True
) -> SliceTable:
    """Read a csv or parquet table, or a folder of class folders; filter by a pandas query and keep the first rows.

    Unless it must be ``labelled``, a table without labels is one of class 0: nothing asks for them then.
    Raises SliceError for a missing source, a column that is not there, a query that does not hold or keeps nothing.
    """
    if source.is_dir():
        rows, classes = _read_folder(name, source)
    else:
        rows, classes = _read_table(name, source, labelled=labelled), ()
    rows.index = pd.RangeIndex(1, len(rows) + 1, name="row")
    if where is not None:
        rows = _filtered(name, rows, where)
    if limit is not None:
        rows = rows.head(limit)
    if rows.empty:
        because = f" after where = {where!r}" if where else ""
        raise SliceError(f"slice {name!r}: {source} has no rows{because}; nothing can be audited")
    return SliceTable(name, source, rows, classes)


def label_indices(table: SliceTable, classes: Sequence[str]) -> pd.Series:
    """Class index of every row: names are looked up in ``classes`` (or the folders), numbers are taken as they are.

    Raises SliceError naming the first row whose label is neither.
    """
    known = {name: index for index, name in enumerate(classes or table.classes)}
    return pd.Series(
        [_index(table, row, label, known) for row, label in table.rows["label"].items()],
        index=table.rows.index,
        dtype="int64",
    )


def _index(table: SliceTable, row: object, label: object, known: dict[str, int]) -> int:
    text = str(label)
    if text in known:
        return known[text]
    if re.fullmatch(PLAIN_NUMBER, text):
        return int(text)
    raise SliceError(
        f"slice {table.name!r}: row {row} of {table.source} has the label {text!r}, which is no class index"
        + (f" and none of the classes {', '.join(list(known)[:20])}" if known else "; the model names no classes")
    )


def _read_table(name: str, source: Path, *, labelled: bool) -> pd.DataFrame:
    if not source.exists():
        raise SliceError(f"slice {name!r}: source {source} does not exist")
    try:
        if source.suffix == ".parquet":
            rows = pd.read_parquet(source)
        elif source.suffix == ".csv":
            rows = pd.read_csv(source, dtype={"image": "str", "label": "str"})
        else:
            raise SliceError(f"slice {name!r}: source {source} must be a .csv or .parquet file or a folder")
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise SliceError(f"slice {name!r}: source {source} cannot be read as a table: {error}") from error
    if not labelled and "label" not in rows:
        rows["label"] = 0
    missing = {"image", "label"} - set(rows.columns)
    if missing:
        raise SliceError(
            f"slice {name!r}: {source} lacks the column {', '.join(sorted(missing))}; it has {', '.join(rows.columns)}"
        )
    blank = rows["image"].isna() | rows["label"].isna()
    if blank.any():
        row = int(blank.to_numpy().argmax()) + 1
        raise SliceError(f"slice {name!r}: row {row} of {source} lacks an image or a label")
    rows["image"] = rows["image"].astype("str")
    if pd.api.types.is_string_dtype(rows["label"]):
        rows["label"] = _plain_numbers(rows["label"])
    rows["path"] = [str(source.parent.absolute() / image) for image in rows["image"]]
    if MASK in rows:
        rows["mask_path"] = _mask_paths(name, source, rows[MASK])
    return rows


def _mask_paths(name: str, source: Path, masks: pd.Series) -> list[str]:
    """Paths of the masks, each of which must exist."""
    found = [str(source.parent.absolute() / str(mask)) if pd.notna(mask) else "" for mask in masks]
    for row, path in enumerate(found, start=1):
        if not Path(path).is_file():
            raise SliceError(
                f"slice {name!r}: row {row} of {source} needs the mask of its image: there is no file {path!r}; give "
                "every row one, or leave the column out"
            )
    return found


def _plain_numbers(labels: pd.Series) -> pd.Series:
    """Labels as integers when all are written as such; "007" is a name, and no label is class 7 by accident."""
    return labels.astype("int64") if labels.str.fullmatch(PLAIN_NUMBER).all() else labels


def _read_folder(name: str, source: Path) -> tuple[pd.DataFrame, tuple[str, ...]]:
    folders = (folder for folder in source.iterdir() if folder.is_dir() and not folder.name.startswith("."))
    classes = tuple(sorted(folder.name for folder in folders))
    files = [
        (f"{folder}/{file.name}", folder)
        for folder in classes
        for file in sorted((source / folder).iterdir())
        if file.suffix.lower() in SUFFIXES
    ]
    if not files:
        raise SliceError(f"slice {name!r}: {source} holds no images in class folders")
    rows = pd.DataFrame(files, columns=["image", "label"])
    rows["path"] = [str(source.absolute() / image) for image in rows["image"]]
    return rows, classes


def _filtered(name: str, rows: pd.DataFrame, where: str) -> pd.DataFrame:
    columns = ", ".join(column for column in rows.columns if column != "path")
    try:
        keep = rows.eval(where, engine="python")
    except Exception as error:  # pandas lets any Python error of the expression through
        raise SliceError(f"slice {name!r}: where = {where!r} cannot be applied: {error}; columns: {columns}") from error
    if not isinstance(keep, pd.Series) or not pd.api.types.is_bool_dtype(keep):
        raise SliceError(f"slice {name!r}: where = {where!r} cannot be applied: it is no condition; columns: {columns}")
    return rows[keep.fillna(False)]
