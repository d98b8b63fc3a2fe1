"""Great Expectations suites: the slice table before any model is loaded, the maps after they are computed."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import AttrailError, ExplanationError, SliceError
from attrail_monitoring.slice_table import SliceTable

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")

import great_expectations as gx  # it reads the variable above when it is imported
import great_expectations.expectations as gxe
from great_expectations.data_context.types.base import ProgressBarsConfig


@dataclass(frozen=True)
class Validation:
    """What a suite said: ``result`` is strict JSON, ``failures`` one sentence for each expectation that failed."""

    name: str
    result: dict[str, Any]
    failures: tuple[str, ...]

    @property
    def success(self) -> bool:
        return not self.failures


def validate_slice_table(table: SliceTable, labels: pd.Series, classes: int | None) -> Validation:
    """Hold a slice's table against what an audit needs; SliceError says which row of which file fails.

    ``classes`` is the number of classes of the model, None when it is not known yet.
    """
    rows = pd.DataFrame(
        {
            "row": table.rows.index,
            "image": table.rows["image"].to_numpy(),
            "label": labels.to_numpy(),
            "file_exists": [Path(path).is_file() for path in table.rows["path"]],
        }
    )
    highest = None if classes is None else classes - 1
    validation = _validate(
        f"slice-{table.name}",
        rows,
        [
            gxe.ExpectColumnValuesToBeInSet(column="file_exists", value_set=[True]),
            gxe.ExpectColumnValuesToBeUnique(column="image"),
            gxe.ExpectColumnValuesToBeBetween(column="label", min_value=0, max_value=highest),
            gxe.ExpectTableRowCountToBeBetween(min_value=1),
        ],
        index="row",
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
                "finite": bool(np.isfinite(each.values[each.defined]).all()),
                "defined": float(each.defined.mean()),
            }
            for each in maps
        ]
    )
    validation = _validate(
        "attributions",
        rows,
        [
            gxe.ExpectColumnValuesToBeInSet(column="finite", value_set=[True]),
            gxe.ExpectColumnValuesToBeBetween(column="defined", min_value=0, strict_min=True, max_value=1),
        ],
        index="maps",
        error=ExplanationError,
    )
    if not validation.success:
        bad = rows[~rows["finite"] | (rows["defined"] == 0)]["maps"].iloc[0]
        raise ExplanationError(f"{bad}: maps are not finite, or no image has one; nothing can be compared")
    return validation


def _first_bad_row(table: SliceTable, rows: pd.DataFrame, classes: int | None) -> str:
    """The first failing row in words."""
    for number, image, label, exists in rows.itertuples(index=False):
        place = f"row {number} of {table.source}"
        if not exists:
            return f"{place} names the image {image!r}, which does not exist at {table.rows.loc[number, 'path']}"
        if label < 0 or (classes is not None and label >= classes):
            known = "0 and up" if classes is None else f"0..{classes - 1}"
            return f"{place} has the label {label}, the model knows {known}; correct the table"
    double = rows.loc[rows["image"].duplicated(), ["row", "image"]].iloc[0]
    return f"row {double['row']} of {table.source} repeats the image {double['image']!r}; every image may appear once"


def _validate(
    name: str,
    rows: pd.DataFrame,
    expectations: Sequence[Any],
    index: str,
    error: type[AttrailError] = SliceError,
) -> Validation:
    """Run a suite over a table; an exception inside an expectation is an error, never a failed expectation."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("attrail").add_dataframe_asset(name)
    suite = context.suites.add(gx.ExpectationSuite(name=name, expectations=list(expectations)))
    batch = asset.add_batch_definition_whole_dataframe("all").get_batch(batch_parameters={"dataframe": rows})
    form = {"result_format": "COMPLETE", "unexpected_index_column_names": [index]}
    result = _strict(batch.validate(suite, result_format=form).to_json_dict())
    failures = []
    for each in result["results"]:
        kind = each["expectation_config"]["type"]
        raised = _exception(each.get("exception_info") or {})
        if raised:
            raise error(f"expectation {kind} of suite {name} could not be evaluated: {raised}")
        if not each["success"]:
            failures.append(f"{kind} of {each['expectation_config']['kwargs'].get('column', 'the table')}")
    return Validation(name, result, tuple(failures))


def _exception(info: dict[str, Any]) -> str | None:
    """What an expectation raised; Great Expectations nests this one level deeper for metric errors."""
    for each in [info] if "raised_exception" in info else info.values():
        if each.get("raised_exception"):
            return str(each.get("exception_message"))
    return None


def _strict(value: Any) -> Any:
    """The value as strict JSON: NaN and infinities, which Great Expectations may report, become text."""
    if isinstance(value, dict):
        return {str(key): _strict(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.loads(json.dumps(value, default=str))
