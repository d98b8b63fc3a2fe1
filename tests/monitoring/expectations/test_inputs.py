"""Great Expectations suites: what fails, where, and that nothing fails silently."""

import json
from pathlib import Path

import great_expectations.expectations as gxe
import numpy as np
import pandas as pd
import pytest

from attrail_explainers.errors import ExplanationError, SliceError
from attrail_monitoring.expectations.inputs import validate_attributions, validate_slice_table
from attrail_monitoring.expectations.validation import strict, validate
from attrail_monitoring.slices.slice_table import label_indices, read_slice_table


@pytest.fixture
def table(tmp_path):
    """Reads a slice table of the given rows; every image but ``gone.png`` exists."""

    def make(*rows):
        source = tmp_path / "slice.csv"
        source.write_text("image,label\n" + "".join(f"{image},{label}\n" for image, label in rows))
        for image, _ in rows:
            if image != "gone.png":
                (tmp_path / image).touch()
        return read_slice_table("all", source)

    return make


def validated(table, classes=3):
    return validate_slice_table(table, label_indices(table, []), classes)


def by_kind(validation):
    return {each["expectation_config"]["type"]: each for each in validation.result["results"]}


def test_a_good_slice(table):
    found = validated(table(("a.png", 0), ("b.png", 2)))
    assert found.success
    assert found.failures == ()
    assert len(by_kind(found)) == 4
    assert all(each["success"] for each in found.result["results"])
    assert found.result["statistics"]["evaluated_expectations"] == 4
    assert json.loads(json.dumps(found.result, allow_nan=False)) == found.result


def test_a_missing_file_names_row_and_path(table, tmp_path):
    path = tmp_path / "gone.png"
    with pytest.raises(SliceError, match=rf"slice 'all': row 2 of .*slice\.csv names the image 'gone\.png'.*at {path}"):
        validated(table(("a.png", 0), ("gone.png", 1)))


@pytest.mark.parametrize(("label", "classes", "known"), [(3, 3, r"0\.\.2"), (-1, 3, r"0\.\.2"), (-1, None, "0 and up")])
def test_a_label_outside_names_row_and_range(table, label, classes, known):
    with pytest.raises(SliceError, match=rf"row 2 of .*slice\.csv has the label {label}, the model knows {known}"):
        validated(table(("a.png", 0), ("b.png", label)), classes)


def test_any_label_while_the_classes_are_unknown(table):
    assert validated(table(("a.png", 0), ("b.png", 999)), None).success


def test_a_duplicate_names_its_second_row(table):
    with pytest.raises(SliceError, match=r"row 3 of .*slice\.csv repeats the image 'a\.png'"):
        validated(table(("a.png", 0), ("b.png", 1), ("a.png", 1)))


def test_rows_keep_their_numbers_after_a_filter(table, tmp_path):
    table(("a.png", 0), ("gone.png", 1), ("b.png", 7))
    filtered = read_slice_table("all", tmp_path / "slice.csv", where="label != 1")
    with pytest.raises(SliceError, match=r"row 3 .* has the label 7"):
        validated(filtered)


def test_failures_are_named():
    rows = pd.DataFrame({"row": [1, 2], "label": [0, 9]})
    found = validate(
        "suite", rows, [gxe.ExpectColumnValuesToBeBetween(column="label", max_value=3)], index=["row"], error=SliceError
    )
    assert not found.success
    assert found.failures == ("expect_column_values_to_be_between of label",)
    assert found.result["results"][0]["result"]["unexpected_index_list"] == [{"label": 9, "row": 2}]


@pytest.mark.parametrize(
    "expectation",
    [
        gxe.ExpectColumnValuesToBeUnique(column="absent"),
        gxe.ExpectColumnValuesToBeBetween(column="text", min_value=0, max_value=3),
    ],
)
def test_an_exception_inside_an_expectation_is_an_error(expectation):
    """Great Expectations itself reports these as a failed expectation."""
    rows = pd.DataFrame({"row": [1, 2], "text": ["a", "b"]})
    with pytest.raises(SliceError, match=r"expectation expect_\w+ of suite broken could not be evaluated: .+"):
        validate("broken", rows, [expectation], index=["row"], error=SliceError)


def test_results_are_strict_json():
    rows = pd.DataFrame({"row": [1, 2, 3], "number": [0.5, np.inf, -np.inf]})
    found = validate(
        "suite", rows, [gxe.ExpectColumnMaxToBeBetween(column="number", max_value=1)], index=["row"], error=SliceError
    )
    json.dumps(found.result, allow_nan=False)
    assert found.result["results"][0]["result"]["observed_value"] == "inf"


def test_strange_values_become_text():
    found = strict({1: [float("nan"), (True, None)], "path": Path("a"), "number": np.float64("-inf")})
    assert found == {"1": ["nan", [True, None]], "path": "a", "number": "-inf"}


def test_good_maps(maps):
    values = np.random.default_rng(0).normal(size=(4, 3, 3))
    values[0] = np.nan
    found = validate_attributions([maps(values), maps(values, "net/2")])
    assert found.success
    assert len(found.result["results"]) == 2
    json.dumps(found.result, allow_nan=False)


def test_maps_that_are_all_undefined_are_named(maps):
    good, empty = np.ones((3, 2, 2)), np.full((3, 2, 2), np.nan)
    with pytest.raises(ExplanationError, match=r"gradcam of net/2 on slice all: .*no image has one"):
        validate_attributions([maps(good), maps(empty, "net/2")])


def test_maps_that_are_not_finite_are_named(maps):
    """Attributions refuse such values themselves; this suite is the second lock."""
    broken = maps(np.ones((3, 2, 2)), "net/2")
    broken.values[1, 0, 0] = np.inf
    with pytest.raises(ExplanationError, match="gradcam of net/2 on slice all: maps are not finite"):
        validate_attributions([maps(np.ones((3, 2, 2))), broken])
