"""Slices as audits, windows and ``attrail explain`` read them: one rule for orientation, cautions that are said."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from attrail_explainers.errors import ConfigError, SliceError, UnsupportedModelError
from attrail_flows.configuration import read_config
from attrail_flows.inputs.slices import read_slices, read_windows
from attrail_mlflow.registry.registry import RegisteredVersion

CONFIG = """
[registry]
model = "m"

[[slice]]
name = "v"
source = "{source}"
"""
PREPROCESSING = """
[preprocessing]
size = {size}
mean = [0, 0, 0]
std = [1, 1, 1]
interpolation = "nearest"
orientation = "{orientation}"
"""
FACTS = {"size": [8, 16], "mean": [0, 0, 0], "std": [1, 1, 1]}
VERSION = RegisteredVersion("m", "1", "", "", None, 3, None, {"attrail": {"classes": ["a", "b", "c"]}})


def config_of(folder: Path, source: str = "s.csv", size: str = "[8, 16]", orientation: str = "exif"):
    path = folder / "attrail.toml"
    path.write_text(CONFIG.format(source=source) + PREPROCESSING.format(size=size, orientation=orientation))
    return read_config(path)


@pytest.fixture
def halves() -> Image.Image:
    """16 pixels wide, 8 high; white on the left."""
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    return Image.fromarray(pixels)


@pytest.fixture
def lying(tmp_path: Path, halves: Image.Image) -> Path:
    """A picture kept on its side, as a camera keeps it, with a mask of its left half as it is seen."""
    exif = Image.Exif()
    exif[274] = 6  # turn it clockwise to see it
    halves.rotate(90, expand=True).save(tmp_path / "photo.png", exif=exif)
    halves.convert("L").save(tmp_path / "mask.png")
    (tmp_path / "s.csv").write_text("image,label,mask\nphoto.png,b,mask.png\n")
    return tmp_path


def test_images_and_masks_are_the_same_way_up(lying: Path) -> None:
    (upright,) = read_slices(config_of(lying), VERSION)
    assert upright.preprocessing.orientation == "exif"
    assert (upright.images[0, 0, :, :8] == 1).all()
    assert (upright.images[0, 0, :, 8:] == 0).all()
    assert (upright.regions[0] == (upright.images[0, 0] == 1)).all()
    with pytest.raises(SliceError, match=r"image .*photo\.png is 8 pixels wide and 16 high, its mask .*mask\.png 16"):
        read_slices(config_of(lying, orientation="stored"), VERSION)


def test_a_mask_of_pixels_as_they_lie_is_no_mask_of_the_picture_upright(lying: Path, halves: Image.Image) -> None:
    halves.convert("L").rotate(90, expand=True).save(lying / "mask.png")
    with pytest.raises(SliceError, match=r'one of them lies on its side; .* orientation = "stored"'):
        read_slices(config_of(lying), VERSION)
    (stored,) = read_slices(config_of(lying, size="[16, 8]", orientation="stored"), VERSION)
    assert stored.preprocessing.orientation == "stored"
    assert (stored.regions[0] == (stored.images[0, 0] == 1)).all()


def test_a_masks_own_orientation_is_applied_too(lying: Path, halves: Image.Image) -> None:
    before = read_slices(config_of(lying), VERSION)[0].regions
    exif = Image.Exif()
    exif[274] = 3
    halves.convert("L").rotate(180).save(lying / "mask.png", exif=exif)
    assert (read_slices(config_of(lying), VERSION)[0].regions == before).all()


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("RGB", r"mask .*mask\.png has 3 channels \(RGB\), a mask has one: .*white on the object, black else"),
        ("P", r"mask .*mask\.png has 3 channels \(RGB\), a mask has one: .*white on the object, black else"),
        ("LA", r"mask .*mask\.png has 2 channels \(LA\), a mask has one: .*white on the object, black else"),
    ],
)
def test_masks_of_several_channels_are_refused(lying: Path, halves: Image.Image, mode: str, said: str) -> None:
    halves.convert("L").convert(mode).save(lying / "mask.png")
    with pytest.raises(SliceError, match=said):
        read_slices(config_of(lying), VERSION)


def test_a_mask_that_is_black_marks_nothing(lying: Path) -> None:
    Image.new("L", (16, 8)).save(lying / "mask.png")
    assert not read_slices(config_of(lying), VERSION)[0].regions.any()


def test_orientation_is_part_of_what_a_slice_is(lying: Path) -> None:
    pd.read_csv(lying / "s.csv").drop(columns="mask").to_csv(lying / "s.csv", index=False)
    digests = {read_slices(config_of(lying, orientation=each), VERSION)[0].digest for each in ("exif", "stored")}
    assert len(digests) == 2


@pytest.mark.parametrize("orientation", ['"up"', "1"])
def test_other_orientations_are_refused(tmp_path: Path, orientation: str) -> None:
    with pytest.raises(ConfigError, match=r"preprocessing\.orientation"):
        config_of(tmp_path, orientation=orientation.strip('"'))


def test_what_is_left_out_is_said_at_every_door(tmp_path: Path, halves: Image.Image, caplog) -> None:
    for name in ("a/1.png", "b/deep/2.png", "__MACOSX/x.png"):
        (tmp_path / "pictures" / name).parent.mkdir(parents=True)
        halves.save(tmp_path / "pictures" / name)
    (tmp_path / "pictures" / "a" / "notes.txt").touch()
    config = config_of(tmp_path, "pictures")
    for read in (read_slices, read_windows):
        with caplog.at_level(logging.WARNING):
            (found,) = read(config, VERSION)
        assert found.sample_ids == ("a/1.png", "b/deep/2.png")
        assert caplog.messages == ["slice v: 2 left out: __MACOSX/, a/notes.txt"]
        caplog.clear()


def test_models_for_other_numbers_are_refused_with_what_to_log(lying: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=r"m/1 was logged for int64 images, .* or the pixels .* as uint8"):
        read_slices(config_of(lying), replace(VERSION, input_type="int64"))


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"size": [8, 16], "mean": [0, 0, 0]}, "m/1 was logged with lacks the key 'std'; log it again .*preprocessing"),
        (FACTS | {"width": 3}, "unknown key 'width', preprocessing takes size, mean, std, interpolation, crop, ori"),
        (FACTS | {"size": 8}, "m/1 was logged with: size must be height and width"),
        (FACTS | {"mean": None}, "m/1 was logged with: mean and std must have one number"),
        (FACTS | {"std": [1, "1", 1]}, "m/1 was logged with: mean and std must be finite numbers"),
        (FACTS | {"crop": "0.9"}, "m/1 was logged with: std must be above 0 and crop"),
        ("imagenet", "m/1 was logged with is str, expected a table"),
        ([8, 16], "m/1 was logged with is list, expected a table"),
    ],
)
def test_preprocessing_that_a_model_was_logged_with_is_read_with_care(lying: Path, stated, said: str) -> None:
    (lying / "attrail.toml").write_text(CONFIG.format(source="s.csv"))
    version = replace(VERSION, metadata={"attrail": {"classes": ["a", "b", "c"], "preprocessing": stated}})
    with pytest.raises(ConfigError, match=said):
        read_slices(read_config(lying / "attrail.toml"), version)


def test_cautions_are_on_the_terminal_in_the_record_and_in_the_report(attrail, workplace) -> None:
    """An audit of class folders that hold what is no picture, and of a table of pictures whose labels are shifted."""
    slices = workplace.folder / "slices"
    rows = pd.read_csv(slices / "validation.csv").head(24)
    for image, label in zip(rows["image"], rows["label"], strict=True):
        (place := slices / "folders" / str(label) / "scanner" / Path(image).name).parent.mkdir(
            parents=True, exist_ok=True
        )
        place.write_bytes((slices / image).read_bytes())
    (slices / "folders" / "Thumbs.db").touch()
    pictures = [{"bytes": (slices / image).read_bytes(), "path": image} for image in rows["image"]]
    rows.assign(image=pictures, label=(rows["label"] + 1) % 10).to_parquet(slices / "held.parquet")
    config = workplace.config(floor=[], explainers='[[explainer]]\nname = "gradcam"', slice="limit = 24")
    text = config.read_text().replace("slices/validation.csv", "slices/folders")
    config.write_text(text + '\n[[slice]]\nname = "held"\nsource = "slices/held.parquet"\n')
    status, out, err = attrail("audit", "--config", config, "--json", workplace.folder / "audit.json")
    assert status in (0, 1, 3), err
    assert "caution on validation: 1 left out: Thumbs.db" in out
    document = json.loads((workplace.folder / "audit.json").read_text())
    folders, held = document["slices"]
    assert folders["cautions"] == ["1 left out: Thumbs.db"]
    right = folders["accuracy"][document["reference"]["label"]]
    assert f"would decide {right:.1%} so if the classes were in another order" in held["cautions"][0]
    assert held["cautions"][0] in " ".join(out.split())
    assert folders["preprocessing"]["orientation"] == "exif"
    assert folders["images"] == held["images"]
    assert "1 left out: Thumbs.db" in Path(document["report_location"]).read_text()
