"""A frozen slice: its identity, its checks, and its pictures for the eye."""

import dataclasses

import numpy as np
import pytest

from attrail_explainers.digest import digest_of, digest_of_arrays
from attrail_explainers.errors import ConfigError, SliceError
from attrail_explainers.slice import Preprocessing, Slice

PREPROCESSING = Preprocessing((4, 4), (0.5,), (0.5,))
SLICE = Slice("s", np.zeros((2, 1, 4, 4), np.float32), np.arange(2), ("a", "b"), PREPROCESSING)
CHANGED = {
    "size": (4, 5),
    "mean": (0.4,),
    "std": (0.4,),
    "interpolation": "bicubic",
    "crop": 0.9,
    "orientation": "stored",
    "crop_mode": "squash",
}


def one_pixel():
    images = SLICE.images.copy()
    images[1, 0, 3, 3] = 1e-6
    return images


@pytest.mark.parametrize(
    "change",
    [
        {"images": one_pixel()},
        {"images": SLICE.images.reshape(2, 1, 2, 8)},
        {"labels": np.array([0, 2])},
        {"sample_ids": ("b", "a")},
        {"preprocessing": None},
        *({"preprocessing": dataclasses.replace(PREPROCESSING, **{key: value})} for key, value in CHANGED.items()),
    ],
)
def test_digest_depends_on_what_the_model_sees(change):
    assert dataclasses.replace(SLICE, **change).digest != SLICE.digest


def test_every_field_of_preprocessing_was_tried():
    assert set(CHANGED) == {field.name for field in dataclasses.fields(Preprocessing)}


def test_keys_that_came_later_leave_the_digests_that_were_made_before():
    before = dataclasses.asdict(PREPROCESSING)
    del before["orientation"], before["crop_mode"]
    arrays = digest_of_arrays([("images", SLICE.images), ("labels", SLICE.labels)])
    assert SLICE.digest == digest_of({"arrays": arrays, "sample_ids": SLICE.sample_ids, "preprocessing": before})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"size": (4,)}, "size must be height and width"),
        ({"size": (4, "4")}, "size must be height and width"),
        ({"std": (0.5, 0.5)}, "one number per channel"),
        ({"mean": (), "std": ()}, "one number per channel"),
        ({"mean": ("0.5",)}, "finite numbers"),
        ({"mean": (float("nan"),)}, "finite numbers"),
        ({"std": (0.0,)}, "above 0"),
        ({"crop": 1.5}, "crop in 0..1"),
        ({"crop": True}, "crop in 0..1"),
        ({"size": (True, 4)}, "size must be height and width"),
        ({"mean": (True,), "std": (1.0,)}, "finite numbers"),
        ({"mean": (0.5,), "std": (True,)}, "finite numbers"),
        ({"mean": 0.5}, "one number per channel"),
        ({"interpolation": "cubic"}, "unknown interpolation 'cubic': known are nearest, bilinear"),
        ({"orientation": "upright"}, "orientation must be one of exif, stored, got 'upright'"),
    ],
)
def test_preprocessing_that_is_none_is_refused(values, reason):
    with pytest.raises(ConfigError, match=reason):
        dataclasses.replace(PREPROCESSING, **values)


def test_the_name_is_not_part_of_the_digest():
    assert dataclasses.replace(SLICE, name="t").digest == SLICE.digest


@pytest.mark.parametrize(
    "change",
    [{"labels": np.arange(3)}, {"sample_ids": ("a",)}, {"images": np.zeros((2, 4, 4), np.float32)}],
)
def test_lengths_must_agree(change):
    with pytest.raises(SliceError, match=r"slice 's': expected images \(N,C,H,W\)"):
        dataclasses.replace(SLICE, **change)


def test_ids_must_differ():
    with pytest.raises(SliceError, match="must be different"):
        dataclasses.replace(SLICE, sample_ids=("a", "a"))


def test_pictures_undo_the_preprocessing(pictures):
    original = ((pictures + 1) * 127.5).round().astype(np.uint8).transpose(0, 2, 3, 1)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    shape = (1, 3, 1, 1)
    images = ((pictures + 1) / 2 - np.reshape(mean, shape)) / np.reshape(std, shape)
    made = Slice("s", images.astype(np.float32), np.arange(6), tuple("abcdef"), Preprocessing((64, 64), mean, std))
    assert (made.pictures() == original).all()


def test_pictures_without_preprocessing_stretch_each_range():
    ramp = np.linspace(-7, 3, 16, dtype=np.float32).reshape(1, 1, 4, 4)
    found = Slice("s", np.concatenate([ramp, np.zeros_like(ramp)]), np.arange(2), ("a", "b")).pictures()
    assert (found[0, ..., 0].ravel() == np.round(np.linspace(0, 255, 16))).all()
    assert (found[0, ..., 0] == found[0, ..., 2]).all()
    assert not found[1].any()


@pytest.mark.parametrize("preprocessing", [None, Preprocessing((5, 3), (0.2, 0.5, 0.4), (0.3, 0.5, 0.2))])
def test_one_picture_is_that_of_all(preprocessing):
    images = np.random.default_rng(0).normal(size=(4, 3, 5, 3)).astype(np.float32)
    slice_ = Slice("s", images, np.arange(4), tuple("abcd"), preprocessing)
    assert [np.array_equal(slice_.picture(row), picture) for row, picture in enumerate(slice_.pictures())] == [True] * 4
