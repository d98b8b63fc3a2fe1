"""The rows of a slice's table: whether each is as an audit needs it."""

import os

import pandas as pd

from attrail_explainers.errors import SliceError
from attrail_explainers.files.picture_source import EmbeddedPicture, Picture
from attrail_monitoring.slices.slice_table import SliceTable, shown

LONGEST = 1000  # characters of a path in a message


def require_rows(table: SliceTable, labels: pd.Series, classes: int | None) -> None:
    """Raise SliceError, naming the first row whose image is missing or repeated, or whose label is no class."""
    bad = first_bad_row(table, rows_of(table, labels), classes)
    if bad is not None:
        raise SliceError(f"slice {table.name!r}: {bad}")


def rows_of(table: SliceTable, labels: pd.Series) -> pd.DataFrame:
    """What is looked at: the columns ``row``, ``image``, ``label`` (class index) and ``file_exists``."""
    return pd.DataFrame(
        {
            "row": table.rows.index,
            "image": table.rows["image"].to_numpy(),
            "label": labels.to_numpy(),
            "file_exists": [_is_there(picture) for picture in table.pictures],
        }
    )


def first_bad_row(table: SliceTable, rows: pd.DataFrame, classes: int | None) -> str | None:
    """The first failing row in words, None when every row is as an audit needs it."""
    for number, image, label, exists in rows.itertuples(index=False):
        place = f"row {number} of {table.source}"
        if not exists:
            path = str(table.rows.loc[number, "path"])[:LONGEST]
            return f"{place} names the image {shown(image)}, which does not exist at {path}"
        if label < 0 or (classes is not None and label >= classes):
            return f"{place} has the label {label}, the model knows {known_labels(classes)}; correct the table"
    for number, image in rows.loc[rows["image"].duplicated(), ["row", "image"]].itertuples(index=False):
        return f"row {number} of {table.source} repeats the image {shown(image)}; every image may appear once"
    return None


def known_labels(classes: int | None) -> str:
    """Which labels a model with so many classes knows, in words."""
    return "0 and up" if classes is None else f"0..{classes - 1}"


def _is_there(picture: Picture) -> bool:
    """Whether a picture can be opened; a name that no file can have is none."""
    return isinstance(picture, EmbeddedPicture) or os.path.isfile(picture)
