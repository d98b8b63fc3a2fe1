"""Class folders: names and numbers mean what they say, however deep images lie, and what is left out is named."""

import pytest

from attrail_explainers.errors import SliceError
from attrail_explainers.files.picture_source import suffixes
from attrail_monitoring.slices.slice_table import cautions, label_indices, read_slice_table


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "pictures"

    def make(*names):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
        return root

    return make


def labels(table, classes=(), count=None):
    return dict(zip(table.rows["image"], label_indices(table, classes, count), strict=True))


def test_a_folder_called_by_a_number_is_that_class(source):
    table = read_slice_table("v", source("3/a.png", "7/a.png"))
    assert labels(table) == {"3/a.png": 3, "7/a.png": 7}
    assert any("torchvision's ImageFolder counts them in another order" in each for each in cautions(table, ()))
    many = read_slice_table("v", source(*(f"{number}/a.png" for number in range(12))))
    assert labels(many, count=12) == {f"{number}/a.png": number for number in range(12)}


def test_numbers_in_their_own_places_need_no_caution(source):
    table = read_slice_table("v", source(*(f"{number}/a.png" for number in range(10))))
    assert labels(table, count=20) == {f"{number}/a.png": number for number in range(10)}
    assert cautions(table, (), 20) == ()


def test_a_folder_called_by_a_class_is_that_class_and_a_number_is_an_index(source):
    table = read_slice_table("v", source("owl/a.png", "2/a.png"))
    assert labels(table, ["fox", "owl", "hen"]) == {"owl/a.png": 1, "2/a.png": 2}
    assert cautions(table, ["fox", "owl", "hen"]) == ()


def test_folders_called_by_numbers_that_the_model_calls_classes(source):
    table = read_slice_table("v", source("3/a.png", "7/a.png"))
    assert labels(table, ["7", "3"]) == {"3/a.png": 1, "7/a.png": 0}
    with pytest.raises(SliceError, match=r"class folder '3' of .* is no class index and none of the classes 7, 9"):
        label_indices(table, ["7", "9"])


def test_names_unknown_to_the_model_are_refused_naming_both(source):
    table = read_slice_table("v", source("cat/a.png", "dog/a.png"))
    with pytest.raises(SliceError, match=r"class folder 'dog' of .*pictures is no class.* classes cat, fox: correct"):
        label_indices(table, ["cat", "fox"])


def test_names_without_a_word_from_the_model_are_counted_only_if_they_are_as_many(source):
    table = read_slice_table("v", source("cat/a.png", "fox/a.png"))
    assert labels(table, count=2) == {"cat/a.png": 0, "fox/a.png": 1}
    assert "classes 0 to 1 in sorted order (as many as the model has)" in cautions(table, (), 2)[0]
    assert cautions(table, (), 2)[0].endswith("log it with them if it was trained in another order")
    assert "the model does not say how many" in cautions(table, ())[0]
    with pytest.raises(SliceError, match=r"has 2 class folders \(cat, fox\), the model has 3 classes without names"):
        label_indices(table, (), 3)


@pytest.mark.parametrize("folders", [("03", "07"), ("01", "02"), ("3", "cat"), ("1", "01")])
def test_folders_that_are_neither_indices_nor_in_order_are_refused(source, folders):
    """Leading zeros belong to a name; but no folder called by a number becomes another class by its place."""
    table = read_slice_table("v", source(*(f"{each}/a.png" for each in folders)))
    for count in (None, 2):
        with pytest.raises(SliceError, match=r"class folder '(03|01|cat)' of .* the model names no classes"):
            label_indices(table, (), count)


def test_parts_of_a_data_set_are_no_classes(source):
    root = source("Train/cat/a.png", "Train/dog/a.png", "val/cat/b.png", "val/dog/b.png")
    with pytest.raises(SliceError, match=r"holds Train, val, which are parts of a data set and no classes: give one"):
        read_slice_table("v", root)
    assert labels(read_slice_table("v", root / "val"), ("cat", "dog")) == {"cat/b.png": 0, "dog/b.png": 1}


def test_a_class_may_be_called_as_a_part_is(source):
    table = read_slice_table("v", source("test/a.png", "train/b.png"))
    assert labels(table, ("train", "test")) == {"test/a.png": 1, "train/b.png": 0}


def test_zeros_in_front_that_only_keep_the_order(source):
    table = read_slice_table("v", source(*(f"{number:02}/a.png" for number in range(11))))
    assert labels(table, count=11) == {f"{number:02}/a.png": number for number in range(11)}


def test_composed_and_decomposed_letters_are_the_same_name(source):
    table = read_slice_table("v", source("ka\u0308fer/a.png", "wal/a.png"))
    assert labels(table, ["wal", "k\u00e4fer"]) == {"ka\u0308fer/a.png": 1, "wal/a.png": 0}


def test_subfolders_are_walked(source):
    root = source("cat/a.png", "dog/patient1/left/a.png", "dog/patient2/a.png", "fox/a.png")
    table = read_slice_table("v", root)
    found = {"cat/a.png": 0, "dog/patient1/left/a.png": 1, "dog/patient2/a.png": 1, "fox/a.png": 2}
    assert labels(table) == found
    assert table.left_out == ()


def test_a_link_to_a_folder_above_is_named_and_not_followed(source):
    root = source("cat/a.png", "dog/a.png")
    (root / "cat" / "again").symlink_to(root, target_is_directory=True)
    table = read_slice_table("v", root)
    assert list(table.rows["image"]) == ["cat/a.png", "dog/a.png"]
    assert table.left_out == ("cat/again/ (a link to a folder it lies in)",)


def test_every_kind_of_file_that_tables_may_hold(source):
    names = [f"cat/{suffix[1:]}{suffix.upper()}" for suffix in suffixes()]
    table = read_slice_table("v", source("cat/a.png", *names))
    assert len(table.rows) == len(suffixes()) + 1
    assert {".avif", ".jfif", ".npy"} <= suffixes()


LITTER = ["__MACOSX/cat/._a.png", ".ipynb_checkpoints/a.png", "@eaDir/a.png", "cat/.DS_Store", "cat/Thumbs.db"]


def test_what_systems_leave_behind_is_no_class(source):
    table = read_slice_table("v", source("cat/a.png", "dog/a.png", *LITTER))
    assert table.classes == ("cat", "dog")
    assert table.left_out == (".ipynb_checkpoints/", "@eaDir/", "__MACOSX/", "cat/.DS_Store", "cat/Thumbs.db")


def test_everything_left_out_is_counted_and_the_first_are_named(source):
    table = read_slice_table("v", source("cat/a.png", "stray.png", *(f"cat/{number}.txt" for number in range(6))))
    (empty := table.source / "owl").mkdir()
    table = read_slice_table("v", table.source)
    assert table.classes == ("cat", empty.name)
    said = cautions(table, ["cat", "owl"])
    assert said == ("8 left out: cat/0.txt, cat/1.txt, cat/2.txt, cat/3.txt, cat/4.txt and 3 more",)
    assert {"stray.png (in no class folder)", "owl/ (no image in it)"} <= set(table.left_out)


def test_a_class_of_files_that_cannot_be_read_is_refused(source):
    with pytest.raises(SliceError, match=r"folder dog of .* holds no image that can be read, only dog/a\.heic"):
        read_slice_table("v", source("cat/a.png", "dog/a.heic"))


def test_pictures_without_labels_may_lie_anywhere(source):
    table = read_slice_table("v", source("a.png", "monday/b.png"), labelled=False)
    assert list(table.rows["image"]) == ["a.png", "monday/b.png"]
