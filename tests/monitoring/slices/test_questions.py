"""What a table asks for tasks that are about more, or less, than one label."""

import numpy as np
import pandas as pd
import pytest

from attrail_explainers import make_task
from attrail_explainers.errors import SliceError
from attrail_monitoring.slices.questions import questions
from attrail_monitoring.slices.slice_table import read_slice_table

NAMES = ("cat", "dog", "None")


@pytest.fixture
def table(tmp_path):
    """A table with a column ``image`` and those that are given, read back from a file."""

    def write(kind="csv", **columns):
        path = tmp_path / f"slice.{kind}"
        rows = pd.DataFrame({"image": [f"{row}.png" for row in range(len(next(iter(columns.values()))))], **columns})
        rows.to_csv(path, index=False) if kind == "csv" else rows.to_parquet(path)
        return read_slice_table("s", path, labelled=False)

    return write


MULTI = make_task("multi_label")


@pytest.mark.parametrize("cells", [["dog; cat", "None", "", "2;1"], ["1;0", "2", None, "None;dog"]])
def test_labels_are_names_or_numbers_joined_by_semicolons(table, cells):
    found = questions(table(labels=cells), MULTI, NAMES, 3)
    assert found.places.tolist() == [0, 0, 1, 3, 3]
    assert found.labels.tolist() == [0, 1, 2, 1, 2]
    assert found.names == ("cat", "dog", "None", "dog", "None")
    assert found.facts["present"].all()


def test_labels_that_are_numbers_throughout_stay_numbers(table):
    """With an empty cell among them pandas makes 3.0 of 3."""
    found = questions(table(labels=[1, None, 0]), MULTI, (), None)
    assert (found.places.tolist(), found.labels.tolist(), found.names) == ([0, 2], [1, 0], ("1", "0"))


def test_labels_may_be_lists_of_a_parquet_file(table):
    found = questions(table("parquet", labels=[["dog", "cat"], [], ["cat"]]), MULTI, NAMES, 3)
    assert (found.places.tolist(), found.labels.tolist()) == ([0, 0, 2], [0, 1, 0])


@pytest.mark.parametrize("flags", [[1, 0, 1], [True, False, True], ["1", "0", "1.0"]])
def test_labels_may_be_columns_of_zeros_and_ones(table, flags):
    task = make_task("multi_label", {"columns": ["dog", "cat"]})
    found = questions(table(cat=[0, 0, 1], dog=flags), task, NAMES, 3)
    assert (found.places.tolist(), found.labels.tolist()) == ([0, 2, 2], [1, 0, 1])


def test_labels_may_be_asked_of_every_image(table):
    task = make_task("multi_label", {"ask": ["dog"]})
    found = questions(table(labels=["cat", "dog", ""]), task, NAMES, 3)
    assert (found.places.tolist(), found.labels.tolist()) == ([0, 0, 1, 2], [0, 1, 1, 1])
    assert found.facts["present"].tolist() == [True, False, True, False]


@pytest.mark.parametrize(
    ("columns", "task", "wrong"),
    [
        ({"labels": ["cat", "cow"]}, MULTI, "row 2 of .* has the label 'cow', which is no class index and none of the"),
        ({"labels": ["cat", "7"]}, MULTI, r"row 2 of .* has the label 7, the model knows 0\.\.2; correct the table"),
        ({"labels": ["", ""]}, MULTI, "no image of .* has a label: there is nothing to explain"),
        (
            {"label": ["cat", "dog"]},
            MULTI,
            "lacks the column labels with the labels of its images, joined by",
        ),
        (
            {"cat": [0, 2]},
            make_task("multi_label", {"columns": ["cat"]}),
            "row 2 of .* has '2' in column cat, expected",
        ),
        ({"cat": [0, 1]}, make_task("multi_label", {"columns": ["dog"]}), "lacks the column dog with 1 where an image"),
        ({"value": [1, "much"]}, make_task("regression"), "row 2 of .* has the value 'much', which is no number"),
        ({"value": [1, None]}, make_task("regression"), "row 2 of .* has the value 'nan', which is no number"),
        ({"query": ["1;2", "1;x"]}, make_task("embedding"), "row 2 of .* has '1;x' as its query, expected numbers"),
        ({"query": ["1;2", "1"]}, make_task("embedding"), "holds vectors of different lengths"),
    ],
)
def test_what_is_wrong_is_named_by_its_row(table, columns, task, wrong):
    with pytest.raises(SliceError, match=wrong):
        questions(table(**columns), task, NAMES, 3)


def test_a_number_may_have_a_right_value(table):
    task = make_task("regression")
    assert questions(table(value=[1, 2.5]), task, ()).facts["value"].tolist() == [1, 2.5]
    found = questions(table(other=[1, 2]), task, ())
    assert (found.facts, found.names, found.labels.tolist()) == ({}, None, [-1, -1])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_vectors_may_be_stored(table, kind):
    cells = ["1;2", "0.5; 3"] if kind == "csv" else [[1.0, 2.0], [0.5, 3.0]]
    found = questions(table(kind, query=cells), make_task("embedding"), ())
    assert found.facts["query"].dtype == np.float32
    assert found.facts["query"].tolist() == [[1, 2], [0.5, 3]]


def test_labels_of_embeddings_tell_like_from_unlike(table):
    found = questions(table(label=["owl", "cat", "owl"]), make_task("embedding"), ())
    assert found.labels.tolist() == [1, 0, 1]
    assert questions(table(other=[1, 2, 3]), make_task("embedding"), ()).labels.tolist() == [-1, -1, -1]
