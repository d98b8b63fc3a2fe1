"""Tables as they are written elsewhere: pictures inside them, numbers that became floats, classes called None."""

import datetime
import decimal
import io
import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from attrail_explainers.errors import SliceError
from attrail_explainers.images import decode
from attrail_explainers.slice import Preprocessing
from attrail_monitoring.slices.slice_table import cautions, label_indices, read_slice_table

PREPROCESSING = Preprocessing((8, 8), (0.0,) * 3, (1.0,) * 3, interpolation="nearest")


def png(value):
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def reds(table):
    return decode(table.pictures, PREPROCESSING)[:, 0, 0, 0] * 255


@pytest.fixture
def parquet(tmp_path):
    def write(columns, metadata=None):
        path = tmp_path / "slice.parquet"
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
        return path

    return write


def hugging_face(*paths):
    return [{"bytes": png(10 * row), "path": path} for row, path in enumerate(paths)]


def test_pictures_as_hugging_face_writes_them(parquet):
    path = parquet({"image": hugging_face("a.png", "b.png", "c.png"), "label": [2, 0, 1], "light": [1, 2, 3]})
    table = read_slice_table("v", path, where="light > 1", limit=2)
    assert table.rows["image"].tolist() == ["b.png", "c.png"]
    assert table.rows.index.tolist() == [2, 3]
    assert label_indices(table, ()).tolist() == [0, 1]
    assert reds(table).tolist() == pytest.approx([10, 20])
    assert str(table.pictures[0]) == f"in row 2 of {path}"


@pytest.mark.parametrize("paths", [(None, None), ("same.png", "same.png"), ("a.png", None)])
def test_pictures_without_names_of_their_own_are_called_by_their_rows(parquet, paths):
    table = read_slice_table("v", parquet({"image": hugging_face(*paths), "label": [0, 1]}))
    assert table.rows["image"].tolist() == ["row 1", "row 2"]
    assert reds(table).tolist() == pytest.approx([0, 10])


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_pictures_as_bytes_alone(parquet, kind):
    table = read_slice_table("v", parquet({"image": pa.array([png(7), png(9)], kind), "label": [0, 1]}))
    assert reds(table).tolist() == pytest.approx([7, 9])


def test_a_picture_that_is_a_file_beside_the_table(parquet):
    path = parquet({"image": [{"bytes": None, "path": "beside.png"}, {"bytes": png(9), "path": "x"}], "label": [0, 1]})
    (path.parent / "beside.png").write_bytes(png(5))
    assert reds(read_slice_table("v", path)).tolist() == pytest.approx([5, 9])


def test_masks_in_a_table(parquet):
    rows = {"image": hugging_face("a", "b"), "mask": hugging_face("c", "d"), "label": [0, 1]}
    masks = read_slice_table("v", parquet(rows)).masks
    assert decode(masks, PREPROCESSING)[1, 0, 0, 0] * 255 == pytest.approx(10)


def test_a_row_without_a_picture_is_named(parquet):
    path = parquet({"image": [{"bytes": png(1), "path": "a"}, {"bytes": None, "path": None}], "label": [0, 1]})
    with pytest.raises(SliceError, match=r"row 2 of .*slice\.parquet lacks an image"):
        read_slice_table("v", path)


def test_a_damaged_picture_in_a_table_is_named_by_its_row_without_its_bytes(parquet):
    table = read_slice_table("v", parquet({"image": [png(1)[:40] * 50], "label": [0]}))
    with pytest.raises(SliceError, match=r"^image in row 1 of .*slice\.parquet cannot be read: .{1,200}$"):
        decode(table.pictures, PREPROCESSING)


def test_what_is_no_picture_is_said_without_an_address_in_memory(parquet):
    table = read_slice_table("v", parquet({"image": [b"no picture"], "label": [0]}))
    with pytest.raises(SliceError, match=r"^image in row 1 of .* it is no picture of a known format; replace"):
        decode(table.pictures, PREPROCESSING)


@pytest.mark.parametrize(
    ("columns", "reason"),
    [
        ({"image": [[png(1)]], "label": [0]}, "image holds values of type list"),
        ({"image": [{"data": 1}], "label": [0]}, "image holds values of type struct"),
        ({"image": ["a"], "label": [b"x"]}, "label holds values of type binary, names or numbers"),
        ({"image": ["a"], "label": [[1, 2]]}, "label holds values of type list"),
        ({"image": [[1, 2]], "label": [0]}, "image holds values of type list"),
    ],
)
def test_columns_of_other_things_are_named(parquet, columns, reason):
    with pytest.raises(SliceError, match=rf"slice\.parquet cannot be read as a table: its column {reason}"):
        read_slice_table("v", parquet(columns))


def test_other_columns_of_bytes_are_left_out_and_named(parquet):
    table = read_slice_table("v", parquet({"image": ["a.png"], "label": [0], "thumbnail": [png(1)]}))
    assert cautions(table, ()) == ("1 left out: column thumbnail (bytes)",)


def described(*names):
    """What Hugging Face's datasets write about a column of labels."""
    return {b"huggingface": json.dumps({"info": {"features": {"label": {"names": names}}}}).encode()}


def test_names_that_the_table_gives_its_numbers(parquet):
    """The same name for another number is refused: one of the two would be wrong without a word."""
    path = parquet({"image": ["a.png", "b.png"], "label": [0, 1]}, described("cat", "dog"))
    table = read_slice_table("v", path)
    assert cautions(table, ("cat", "dog")) == ()
    assert label_indices(table, ("cat", "dog")).tolist() == [0, 1]
    assert "calls label 1 'dog', the model calls class 1 'hound'" in cautions(table, ("cat", "hound"))[0]
    with pytest.raises(SliceError, match=r"calls label 0 'cat', which is class 1 of the model: write the names"):
        label_indices(table, ("dog", "cat"))


@pytest.mark.parametrize("word", ["None", "NA", "null", "nan", "n/a", "NULL", "N/A", "NaN", "<NA>", "-nan"])
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_classes_may_be_called_by_words_for_nothing(tmp_path, word, kind):
    rows = pd.DataFrame({"image": ["a.png", "NA"], "label": [word, "scratch"], "score": [1.5, None]})
    path = tmp_path / f"slice.{kind}"
    rows.to_csv(path, index=False) if kind == "csv" else rows.to_parquet(path)
    table = read_slice_table("v", path)
    assert label_indices(table, ("scratch", word)).tolist() == [1, 0]
    assert table.rows["image"].tolist() == ["a.png", "NA"]
    assert read_slice_table("v", path, where="score > 1").rows["label"].tolist() == [word]


WHOLE = [
    np.array([0.0, 3.0]),
    np.array([0.0, 3.0], np.float32),
    np.array([0, 3], np.uint8),
    pd.array([0, 3], dtype="Int64"),
    pd.array([0.0, 3.0], dtype="Float64"),
    pd.Categorical([0, 3]),
    pd.Categorical(["0", "3"]),
    ["0", "3"],
    ["0.0", "3.00"],
    [decimal.Decimal("0.0"), decimal.Decimal("3.0")],
]


@pytest.mark.parametrize("labels", WHOLE, ids=lambda each: f"{type(each).__name__}-{getattr(each, 'dtype', '')}")
def test_whole_numbers_are_classes_however_they_are_kept(tmp_path, labels):
    pd.DataFrame({"image": ["a.png", "b.png"], "label": labels}).to_parquet(tmp_path / "slice.parquet")
    table = read_slice_table("v", tmp_path / "slice.parquet")
    assert label_indices(table, ()).tolist() == [0, 3]
    assert label_indices(table, ("a", "b", "c", "d")).tolist() == [0, 3]
    assert label_indices(table, ("3", "0")).tolist() == [1, 0]


@pytest.mark.parametrize("labels", [[0.0, 3.5], [0.0, np.inf], [0.0, 1e20], [False, True], [datetime.date.today()] * 2])
def test_other_values_are_no_classes(tmp_path, labels):
    pd.DataFrame({"image": ["a.png", "b.png"], "label": labels}).to_parquet(tmp_path / "slice.parquet")
    with pytest.raises(SliceError, match=r"row [12] of .* has the label '.+', which is no class index"):
        label_indices(read_slice_table("v", tmp_path / "slice.parquet"), ("cat", "dog"))


def test_true_and_false_may_be_names(tmp_path):
    pd.DataFrame({"image": ["a.png", "b.png"], "label": [False, True]}).to_parquet(tmp_path / "slice.parquet")
    assert label_indices(read_slice_table("v", tmp_path / "slice.parquet"), ("True", "False")).tolist() == [1, 0]


@pytest.mark.parametrize("labels", [[0.0, None], pd.array([0, None], dtype="Int64"), ["cat", None], [0.0, np.nan]])
def test_a_row_without_a_label_is_named_only_where_it_counts(tmp_path, labels):
    path = tmp_path / "slice.parquet"
    pd.DataFrame({"image": ["a.png", "b.png"], "label": labels}).to_parquet(path)
    with pytest.raises(SliceError, match=r"row 2 of .* lacks an image or a label"):
        read_slice_table("v", path)
    assert label_indices(read_slice_table("v", path, limit=1), ("cat",)).tolist() == [0]
    assert len(read_slice_table("v", path, labelled=False).rows) == 2


def test_two_classes_of_one_name_are_refused(tmp_path):
    (tmp_path / "slice.csv").write_text("image,label\na.png,cat\n")
    with pytest.raises(SliceError, match=r"two of the model's classes are called 'cat'"):
        label_indices(read_slice_table("v", tmp_path / "slice.csv"), ("cat", "cat"))


def test_cells_beyond_the_names_are_refused(tmp_path):
    """pandas would take the images for numbers of rows and the labels for images."""
    (tmp_path / "slice.csv").write_text("image,label\na.png,0,1\nb.png,1,1\n")
    with pytest.raises(SliceError, match="more cells than its first line has names"):
        read_slice_table("v", tmp_path / "slice.csv")
