"""Boxes in a slice's table: as they are written in cells or in a file in COCO's format, and what is wrong with them."""

import json

import pandas as pd
import pytest

from attrail_explainers import make_task
from attrail_explainers.errors import SliceError
from attrail_monitoring.slices.boxes import with_coco_boxes
from attrail_monitoring.slices.questions import questions
from attrail_monitoring.slices.slice_table import read_slice_table

NAMES = ("cat", "dog", "cow")
TASK = make_task("detection")
TWO = [{"box": [1, 2, 11, 22], "class": "dog"}, {"box": [0, 0, 5.5, 5], "class": 0}]


@pytest.fixture
def table(tmp_path):
    def write(cells=None, kind="csv", images=None):
        names = images or [f"{row}.png" for row in range(len(cells or [0, 1]))]
        rows = pd.DataFrame({"image": names} | ({} if cells is None else {"boxes": cells}))
        path = tmp_path / f"slice.{kind}"
        rows.to_csv(path, index=False) if kind == "csv" else rows.to_parquet(path)
        return read_slice_table("s", path, labelled=False)

    return write


@pytest.mark.parametrize("first", [json.dumps(TWO), json.dumps([[1, 2, 11, 22, "dog"], [0, 0, 5.5, 5, "0"]])])
def test_cells_hold_json_of_boxes_with_their_classes(table, first):
    found = questions(table([first, None, json.dumps([[3, 3, 9, 9, "dog"], [4, 3, 9, 9, "dog"]])]), TASK, NAMES, 3)
    assert found.places.tolist() == [0, 0, 2, 2]
    assert found.labels.tolist() == [1, 0, 1, 1]
    assert found.names == ("dog", "cat", "dog", "dog 2")
    assert found.facts["box"].tolist() == [[1, 2, 11, 22], [0, 0, 5.5, 5], [3, 3, 9, 9], [4, 3, 9, 9]]


def test_cells_of_a_parquet_file_hold_lists(table):
    cells = [[{"box": [1, 2, 11, 22], "class": "dog"}], [], [{"box": [0, 0, 5, 5], "class": "cat"}]]
    found = questions(table(cells, "parquet"), TASK, NAMES, 3)
    assert (found.places.tolist(), found.labels.tolist()) == ([0, 2], [1, 0])
    assert found.facts["box"].tolist() == [[1, 2, 11, 22], [0, 0, 5, 5]]


def test_width_and_height_are_said_by_the_format(table):
    cells = [json.dumps([{"box": [1, 2, 10, 20], "class": "dog"}, {"bbox": [1, 2, 10, 20], "class": "dog"}])]
    found = questions(table(cells), make_task("detection", {"format": "xywh"}), NAMES, 3)
    assert found.facts["box"].tolist() == [[1, 2, 11, 22]] * 2


def test_a_table_without_boxes_leaves_them_open(table):
    found = questions(table(), TASK, NAMES, 3)
    assert found.names is None
    assert found.labels.tolist() == [-1, -1]
    assert not found.facts


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ("cat 1 2 3 4", "row 1 of .*slice.csv has 'cat 1 2 3 4' among its boxes, expected"),
        ('{"box": [1, 2, 3, 4], "class": "dog"}', "among its boxes, expected"),
        ('[{"box": [1, 2, 3], "class": "dog"}]', r"has .*\[1, 2, 3\].* among its boxes, expected"),
        ('[{"box": [1, 2, 3, "4"], "class": "dog"}]', "among its boxes, expected"),
        ('[{"box": [1, 2, 3, 4]}]', "among its boxes, expected"),
        ('[{"box": [1, 2, 3, 4], "class": true}]', "among its boxes, expected"),
        ('[{"box": [1, 2, NaN, 4], "class": "dog"}]', "among its boxes, expected"),
        ("[[1, 2, 3, 4]]", "among its boxes, expected"),
        (
            "[[10, 20, 5, 8, 1]]",
            'has no extent as xyxy: correct it; set the task\'s format to "xywh" if these are x, y',
        ),
        ("[[1, 2, 3, 4, 3]]", r"row 1 of .*slice.csv has the label 3, the model knows 0..2"),
        ("[[1, 2, 3, 4, 'fox']]", "among its boxes, expected"),
        ('[[1, 2, 3, 4, "fox"]]', "row 1 of .*slice.csv has the label 'fox', which is no class index"),
        ("[]", "no image of .*slice.csv has a box: there is nothing to explain"),
    ],
)
def test_wrong_boxes_are_named_by_their_row(table, cell, reason):
    with pytest.raises(SliceError, match=reason):
        questions(table([cell]), TASK, NAMES, 3)


def test_width_and_height_above_zero_are_asked_for(table):
    with pytest.raises(SliceError, match="no extent as xywh: correct it; these are taken for x, y, width and height"):
        questions(table(["[[1, 2, 0, 4, 1]]"]), make_task("detection", {"format": "xywh"}), NAMES, 3)


def coco(**changes):
    def annotation(image, category, bbox, **more):
        return {"image_id": image, "category_id": category, "bbox": bbox, **more}

    return {
        "images": [{"id": 7, "file_name": "val/0.png"}, {"id": 9, "file_name": "1.png"}],
        "categories": [{"id": 2, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [
            annotation(9, 2, [1, 2, 10, 20]),
            annotation(7, 1, [0, 0, 5, 5], iscrowd=0),
            annotation(7, 1, [0, 0, 50, 50], iscrowd=1),
        ],
    } | changes


def written(tmp_path, document):
    path = tmp_path / "instances.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.parametrize("named", [True, False])
def test_boxes_of_a_coco_file_are_found_by_the_images_names(table, tmp_path, named):
    """Crowds are no objects; where the model names no classes its numbers are those of the categories."""
    found = questions(with_coco_boxes(table(), written(tmp_path, coco()), named=named), TASK, NAMES if named else (), 3)
    assert found.places.tolist() == [0, 1]
    assert found.labels.tolist() == ([0, 1] if named else [1, 2])
    assert found.facts["box"].tolist() == [[0, 0, 5, 5], [1, 2, 11, 22]]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("[1, 2", "instances.json is no file in COCO's format"),
        ("[]", "instances.json is no file in COCO's format"),
        ({"images": []}, r"no file in COCO's format \(KeyError: .*\): expected images"),
        (
            coco(images=[{"id": 7, "file_name": "0.png"}]),
            "row 2 of .* names the image '1.png', .* no image of that name",
        ),
        (coco(images=[{"id": each, "file_name": f"{each}/0.png"} for each in (7, 9)]), "lists 2 images of that name"),
        (coco(categories=[{"id": 1, "name": "cat"}]), "no file in COCO's format"),
    ],
)
def test_what_is_wrong_with_a_coco_file_is_one_sentence(table, tmp_path, document, reason):
    with pytest.raises(SliceError, match=reason):
        with_coco_boxes(table(), written(tmp_path, document), named=True)


def test_a_coco_file_beside_boxes_or_that_is_not_there_is_refused(table, tmp_path):
    with pytest.raises(SliceError, match="has a column boxes of its own: remove coco, or the column"):
        with_coco_boxes(table([json.dumps(TWO)]), written(tmp_path, coco()), named=True)
    with pytest.raises(SliceError, match=r"other\.json cannot be read"):
        with_coco_boxes(table(), tmp_path / "other.json", named=True)
