"""What a table asks for tasks that are about more, or less, than one label."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

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


@pytest.fixture
def masked(table, tmp_path):
    """A table with a mask for each image, and other columns."""

    def write(masks, **columns):
        names = [f"{row}-mask.png" for row in range(len(masks))]
        for name, mask in zip(names, masks, strict=True):
            picture = mask if isinstance(mask, Image.Image) else Image.fromarray(np.array(mask, dtype=np.uint8))
            picture.save(tmp_path / name)
        return table(mask=names, **columns)

    return write


ZONES = make_task("segmentation", {"share": 0.3})
INDICES = [[[0, 0, 1], [0, 0, 1]], [[2, 2, 255], [2, 0, 255]]]
WHITE = [[[0, 0, 255], [0, 0, 255]], [[0, 0, 0], [255, 0, 0]]]


def marks(found):
    return [(place, number) for place, (_, number) in zip(found.places.tolist(), found.masks, strict=True)]


def test_masks_of_indices_ask_about_what_they_show_on_their_share(masked):
    found = questions(masked(INDICES), ZONES, NAMES, 3)
    assert (found.places.tolist(), found.labels.tolist()) == ([0, 0, 1], [0, 1, 2])
    assert (found.names, marks(found)) == (("cat", "dog", "None"), [(0, 0), (0, 1), (1, 2)])


def test_masks_of_indices_may_be_palettes_or_deep(masked):
    palette = Image.fromarray(np.array(INDICES[0], dtype=np.uint8), "P")
    palette.putpalette([90, 90, 90, 255, 0, 0])
    deep = Image.fromarray(np.array(INDICES[1], dtype=np.uint16))
    assert marks(questions(masked([palette, deep]), ZONES, NAMES, 3)) == [(0, 0), (0, 1), (1, 2)]


def test_classes_that_are_named_are_asked_about_even_where_a_mask_lacks_them(masked):
    found = questions(masked(INDICES, **{"class": ["dog; 2", "cat"]}), ZONES, NAMES, 3)
    assert marks(found) == [(0, 1), (0, 2), (1, 0)]


@pytest.mark.parametrize("ask", [{"class": ["dog", "cat"]}, {}])
def test_white_masks_show_the_class_that_is_named(masked, ask):
    task = ZONES if ask else make_task("segmentation", {"ask": ["dog"]})
    found = questions(masked(WHITE, **ask), task, NAMES, 3)
    assert marks(found) == [(0, 255), (1, 255)]
    assert found.labels.tolist() == ([1, 0] if ask else [1, 1])


def test_without_masks_the_reference_says_where_classes_are_or_which(table):
    named = questions(table(**{"class": ["dog", "", "cat;1"]}), ZONES, NAMES, 3)
    assert (named.places.tolist(), named.labels.tolist(), named.masks) == ([0, 2, 2], [1, 0, 1], None)
    asked = questions(table(other=[1, 2]), make_task("segmentation", {"ask": ["1"]}), NAMES, 3)
    assert (asked.places.tolist(), asked.labels.tolist(), asked.names) == ([0, 1], [1, 1], ("dog", "dog"))
    free = questions(table(other=[1, 2]), ZONES, NAMES, 3)
    assert (free.labels.tolist(), free.names, free.facts) == ([-1, -1], None, {})


@pytest.mark.parametrize(
    ("masks", "columns", "wrong"),
    [
        (
            [[[0, 1]], [[3, 0]]],
            {},
            r"row 2 of .* its mask .*1-mask\.png holds the class index 3, the model knows 0\.\.2",
        ),
        (WHITE, {}, "hold 0 and 255 alone: say which class is white by a column class, or by the task's ask"),
        (WHITE, {"class": ["cat", "cat;dog"]}, "row 2 of .* names several classes, and its mask holds 0 and 255 alone"),
        (
            INDICES,
            {"class": ["cat", "cow"]},
            "row 2 of .* has the label 'cow', which is no class index and none of the",
        ),
        (INDICES, {"class": ["cat", "4"]}, r"row 2 of .* has the label 4, the model knows 0\.\.2; correct the table"),
        (INDICES, {"class": ["", ""]}, "the column class of .* names no class"),
        ([Image.new("RGB", (3, 2))] * 2, {}, r"mask .*0-mask\.png holds uint8 of shape .*, expected one whole number"),
    ],
)
def test_masks_that_cannot_be_asked_about_are_named(masked, masks, columns, wrong):
    with pytest.raises(SliceError, match=wrong):
        questions(masked(masks, **columns), ZONES, NAMES, 3)


def test_a_mask_that_is_not_there_is_named_by_its_row(table):
    with pytest.raises(SliceError, match=r"row 1 of .* needs the mask of its image: there is no file "):
        table(mask=["none.png"])
