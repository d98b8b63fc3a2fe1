"""Slice tables: every source a user may have, and one sentence for every mistake in it."""

import pandas as pd
import pytest

from attrail_explainers.errors import SliceError
from attrail_monitoring.slices.slice_table import label_indices, read_slice_table

ROWS = pd.DataFrame(
    {
        "image": ["001", "002", "b/c.png", "d.png"],
        "label": [3, 1, 0, 3],
        "light": ["day", "night", "night", "day"],
    }
)


@pytest.fixture(params=["csv", "parquet"])
def table(request, tmp_path):
    path = tmp_path / f"slice.{request.param}"
    ROWS.to_csv(path, index=False) if request.param == "csv" else ROWS.to_parquet(path)
    return path


@pytest.fixture
def csv(tmp_path):
    def write(text):
        path = tmp_path / "slice.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def folder(tmp_path):
    """Class folders as torchvision's ImageFolder reads them, with the litter that real ones have."""
    root = tmp_path / "pictures"
    names = [
        "owl/2.png",
        "owl/1.JPG",
        "hen/1.webp",
        "hen/notes.txt",
        "fox/1.png",
        ".ipynb_checkpoints/1.png",
        "readme.md",
    ]
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_table(table):
    found = read_slice_table("all", table)
    assert found.rows["image"].tolist() == ROWS["image"].tolist()
    assert found.rows["path"].tolist() == [str(table.parent / image) for image in ROWS["image"]]
    assert found.rows["light"].tolist() == ROWS["light"].tolist()
    assert found.rows.index.tolist() == [1, 2, 3, 4]
    assert label_indices(found, []).tolist() == [3, 1, 0, 3]
    assert found.classes == ()


def test_where_and_limit_keep_the_rows_own_numbers(table):
    found = read_slice_table("night", table, where="light == 'night' and label >= 0")
    assert found.rows.index.tolist() == [2, 3]
    assert label_indices(found, []).to_dict() == {2: 1, 3: 0}
    assert read_slice_table("all", table, limit=3).rows.index.tolist() == [1, 2, 3]
    assert read_slice_table("night", table, where="light == 'night'", limit=1).rows.index.tolist() == [2]
    assert len(read_slice_table("all", table, limit=99).rows) == 4


def test_paths_are_absolute(table, monkeypatch):
    monkeypatch.chdir(table.parent)
    found = read_slice_table("all", type(table)(table.name))
    assert found.rows["path"].iloc[0] == str(table.parent / "001")


def test_numbers_as_names_of_images(tmp_path):
    path = tmp_path / "slice.parquet"
    pd.DataFrame({"image": [7, 8], "label": [0, 1]}).to_parquet(path)
    assert read_slice_table("all", path).rows["image"].tolist() == ["7", "8"]


def test_absolute_images_stay_where_they_are(csv, tmp_path):
    found = read_slice_table("all", csv(f"image,label\n{tmp_path}/elsewhere/a.png,0\n"))
    assert found.rows["path"].tolist() == [f"{tmp_path}/elsewhere/a.png"]


def test_folder_of_classes(folder):
    found = read_slice_table("all", folder)
    assert found.classes == ("fox", "hen", "owl")
    assert found.rows["image"].tolist() == ["fox/1.png", "hen/1.webp", "owl/1.JPG", "owl/2.png"]
    assert found.rows["path"].tolist() == [str(folder / image) for image in found.rows["image"]]
    assert label_indices(found, []).tolist() == [0, 1, 2, 2]
    assert label_indices(found, ["owl", "hen", "fox"]).tolist() == [2, 1, 0, 0]
    assert read_slice_table("owls", folder, where="label == 'owl'").rows.index.tolist() == [3, 4]


def test_class_names_that_are_numbers_are_names(csv):
    """Folders "7" and "3" of a model that knows these two classes."""
    table = read_slice_table("all", csv("image,label\na,7\nb,3\n"))
    assert label_indices(table, ["3", "7"]).tolist() == [1, 0]
    assert label_indices(table, []).tolist() == [7, 3]


def test_leading_zeros_belong_to_the_name(csv):
    table = read_slice_table("all", csv("image,label\na,001\nb,002\n"))
    assert label_indices(table, ["001", "002"]).tolist() == [0, 1]
    with pytest.raises(SliceError, match=r"row 1 .* has the label '001'"):
        label_indices(table, ["002", "003"])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_whole_numbers_with_a_point_are_compared_as_numbers(kind, tmp_path):
    """As pandas writes labels where a row has none."""
    rows = pd.DataFrame({"image": ["a", "b", "c"], "label": [0.0, None, 2.0]})
    path = tmp_path / f"t.{kind}"
    rows.to_csv(path, index=False) if kind == "csv" else rows.to_parquet(path)
    assert label_indices(read_slice_table("v", path, "label >= 1"), ()).tolist() == [2]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_classes_called_by_numbers_with_a_point(kind, tmp_path):
    rows = pd.DataFrame({"image": ["a", "b"], "label": [1.0, 2.0]})
    path = tmp_path / f"t.{kind}"
    rows.to_csv(path, index=False) if kind == "csv" else rows.to_parquet(path)
    assert label_indices(read_slice_table("v", path), ("1.0", "2.0")).tolist() == [0, 1]


def test_numbers_can_be_compared_in_a_query(csv):
    path = csv("image,label\na,10\nb,9\nc,-1\n")
    assert read_slice_table("all", path, where="label > 8").rows["image"].tolist() == ["a", "b"]


def test_labels_that_are_no_class_name_the_row(csv):
    table = read_slice_table("all", csv("image,label\na,owl\nb,hen\nc,elk\n"))
    with pytest.raises(SliceError, match=r"row 3 of .*slice\.csv has the label 'elk'.*none of the classes owl, hen"):
        label_indices(table, ["owl", "hen"])
    with pytest.raises(SliceError, match=r"row 1 .*'owl'.*the model names no classes"):
        label_indices(table, [])


@pytest.mark.parametrize("column", ["image", "label"])
def test_missing_column(csv, column):
    text = ROWS.rename(columns={column: "other"}).to_csv(index=False)
    with pytest.raises(SliceError, match=rf"slice 'all': .*slice\.csv lacks the column {column}; it has .*other"):
        read_slice_table("all", csv(text))


@pytest.mark.parametrize("rows", ["a,0\n,1\n", "a,0\nb,\n"])
def test_blank_cells_name_the_row(csv, rows):
    with pytest.raises(SliceError, match=r"row 2 of .*slice\.csv lacks an image or a label"):
        read_slice_table("all", csv("image,label\n" + rows))


@pytest.mark.parametrize(
    "where", ["light ==", "brightness > 3", "light > 3", "label", "label + 1", "'day'", "3", "label = 3"]
)
def test_queries_that_are_no_condition(table, where):
    """Some of these would otherwise pick rows by number."""
    with pytest.raises(
        SliceError, match=r"slice 'all': where = .* cannot be applied: .*; columns: image, label, light"
    ):
        read_slice_table("all", table, where=where)


def test_conditions_that_are_unknown_for_a_row_leave_it_out(tmp_path):
    path = tmp_path / "slice.parquet"
    ROWS.assign(night=pd.array([True, None, False, True], dtype="boolean")).to_parquet(path)
    assert read_slice_table("all", path, where="night").rows.index.tolist() == [1, 4]


def test_nothing_left(table):
    with pytest.raises(SliceError, match=r"has no rows after where = 'label > 9'; nothing can be audited"):
        read_slice_table("all", table, where="label > 9")


@pytest.mark.parametrize("text", ["image,label\n", ""])
def test_empty_tables(csv, text):
    with pytest.raises(SliceError, match=r"slice 'all': .*slice\.csv"):
        read_slice_table("all", csv(text))


def test_empty_folder(tmp_path):
    (tmp_path / "owl").mkdir()
    with pytest.raises(SliceError, match="holds no images in class folders"):
        read_slice_table("all", tmp_path)


def test_missing_source(tmp_path):
    with pytest.raises(SliceError, match=r"slice 'all': source .*nothing\.csv does not exist"):
        read_slice_table("all", tmp_path / "nothing.csv")


def test_other_kinds_of_files(tmp_path):
    path = tmp_path / "slice.xlsx"
    path.touch()
    with pytest.raises(SliceError, match=r"must be a \.csv or \.parquet file or a folder"):
        read_slice_table("all", path)


@pytest.mark.parametrize("name", ["slice.csv", "slice.parquet"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00\xff", b'image,label\n"a,1\n', b"image,label\na,1,2\nb,1,2,3\n"])
def test_damaged_tables(tmp_path, name, content):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SliceError, match=rf"slice 'all': .*{name}"):
        read_slice_table("all", path)


def test_masks_are_found_beside_the_table_and_each_must_exist(tmp_path):
    source = tmp_path / "slice.csv"
    (tmp_path / "mask.png").write_bytes(b"any")
    source.write_text("image,label,mask\na.png,1,mask.png\n")
    assert list(read_slice_table("s", source).rows["mask_path"]) == [str(tmp_path / "mask.png")]
    source.write_text("image,label,mask\na.png,1,mask.png\nb.png,1,\n")
    with pytest.raises(SliceError, match=r"row 2 of .*needs the mask of its image"):
        read_slice_table("s", source)
