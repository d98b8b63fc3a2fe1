"""Great Expectations suites: the slice table before any model is loaded, the maps after they are computed."""

import os
from collections.abc import Sequence

import great_expectations.expectations as gxe
import pandas as pd

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ExplanationError, SliceError
from attrail_explainers.picture_file import EmbeddedPicture, Picture
from attrail_monitoring.slice_table import SliceTable, shown
from attrail_monitoring.validation import Validation, validate

__all__ = ["Validation", "validate_attributions", "validate_slice_table"]

LONGEST = 1000  # characters of a path in a message


def validate_slice_table(table: SliceTable, labels: pd.Series, classes: int | None) -> Validation:
    """Hold a slice's table against what an audit needs; SliceError says which row of which file fails.

    ``classes`` is the number of classes of the model, None when it is not known yet.
    """
    rows = pd.DataFrame(
        {
            "row": table.rows.index,
            "image": table.rows["image"].to_numpy(),
            "label": labels.to_numpy(),
            "file_exists": [_is_there(picture) for picture in table.pictures],
        }
    )
    highest = None if classes is None else classes - 1
    known = _known_labels(classes)
    validation = validate(
        f"slice-{table.name}",
        rows,
        [
            gxe.ExpectColumnValuesToBeInSet(
                column="file_exists", value_set=[True], description="Every image file that the table names exists."
            ),
            gxe.ExpectColumnValuesToBeUnique(column="image", description="Every image appears once."),
            gxe.ExpectColumnValuesToBeBetween(
                column="label", min_value=0, max_value=highest, description=f"Every label is a class: {known}."
            ),
            gxe.ExpectTableRowCountToBeBetween(min_value=1, description="The table has at least one row."),
        ],
        index=["row"],
        error=SliceError,
        notes=f"The table of slice {table.name}, before any model is loaded.",
    )
    if not validation.success:
        raise SliceError(f"slice {table.name!r}: {_first_bad_row(table, rows, classes)}")
    return validation


def validate_attributions(maps: Sequence[Attributions]) -> Validation:
    """Hold all maps of an audit against what a comparison needs; ExplanationError says whose are unusable."""
    rows = pd.DataFrame(
        [
            {
                "maps": f"{each.explainer} of {each.model} on slice {each.slice_name}",
                "finite": bool(each.finite[each.defined].all()),
                "defined": float(each.defined.mean()),
            }
            for each in maps
        ]
    )
    validation = validate(
        "attributions",
        rows,
        [
            gxe.ExpectColumnValuesToBeInSet(
                column="finite", value_set=[True], description="Every number in every map is finite."
            ),
            gxe.ExpectColumnValuesToBeBetween(
                column="defined",
                min_value=0,
                strict_min=True,
                max_value=1,
                description="Every version has a map of at least one image, by every explainer on every slice.",
            ),
        ],
        index=["maps"],
        error=ExplanationError,
        notes="The maps of every version, before they are compared.",
    )
    if not validation.success:
        bad = rows[~rows["finite"] | (rows["defined"] == 0)]["maps"].iloc[0]
        raise ExplanationError(f"{bad}: maps are not finite, or no image has one; nothing can be compared")
    return validation


def _is_there(picture: Picture) -> bool:
    """Whether a picture can be opened; a name that no file can have is none."""
    return isinstance(picture, EmbeddedPicture) or os.path.isfile(picture)


def _first_bad_row(table: SliceTable, rows: pd.DataFrame, classes: int | None) -> str:
    """The first failing row in words."""
    for number, image, label, exists in rows.itertuples(index=False):
        place = f"row {number} of {table.source}"
        if not exists:
            path = str(table.rows.loc[number, "path"])[:LONGEST]
            return f"{place} names the image {shown(image)}, which does not exist at {path}"
        if label < 0 or (classes is not None and label >= classes):
            return f"{place} has the label {label}, the model knows {_known_labels(classes)}; correct the table"
    double = rows.loc[rows["image"].duplicated(), ["row", "image"]].iloc[0]
    place = f"row {double['row']} of {table.source}"
    return f"{place} repeats the image {shown(double['image'])}; every image may appear once"


def _known_labels(classes: int | None) -> str:
    return "0 and up" if classes is None else f"0..{classes - 1}"
