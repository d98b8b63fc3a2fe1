"""Great Expectations suites: the slice table before any model is loaded, the maps after they are computed."""

from collections.abc import Sequence

import great_expectations.expectations as gxe
import pandas as pd

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ExplanationError, SliceError
from attrail_monitoring.expectations.validation import Validation, validate
from attrail_monitoring.slices.slice_rows import first_bad_row, known_labels, rows_of
from attrail_monitoring.slices.slice_table import SliceTable

__all__ = ["Validation", "validate_attributions", "validate_slice_table"]


def validate_slice_table(table: SliceTable, labels: pd.Series, classes: int | None) -> Validation:
    """Hold a slice's table against what an audit needs; SliceError says which row of which file fails.

    ``classes`` is the number of classes of the model, None when it is not known yet.
    """
    rows = rows_of(table, labels)
    highest = None if classes is None else classes - 1
    known = known_labels(classes)
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
        raise SliceError(f"slice {table.name!r}: {first_bad_row(table, rows, classes)}")
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
