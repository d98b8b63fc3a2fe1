"""Pictures of maps: one scale for a pair, no false evidence, the same bytes every time."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from skimage import data

from attrail_monitoring.pictures.overlays import (
    Scale,
    colour_bar,
    data_uri,
    fit,
    no_map,
    overlay,
    png,
    shared_scale,
)


@pytest.fixture(scope="module")
def photograph() -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(data.astronaut()).resize((96, 64)))


def decoded(file: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB"))


def test_a_shared_scale_reaches_the_largest_absolute_value_of_all_maps():
    weak, strong = np.array([[0.5, -1.0]]), np.array([[np.nan, -4.0]])
    assert shared_scale(weak, strong) == Scale(4.0, signed=True)
    assert shared_scale(np.array([[0.0, 2.0]])) == Scale(2.0, signed=False)
    assert shared_scale(np.array([[0.0, 2.0]]), signed=True) == Scale(2.0, signed=True)


def test_a_scale_without_any_value_is_zero_and_can_be_drawn(photograph):
    scale = shared_scale(np.full((2, 2), np.nan))
    assert scale == Scale(0.0, signed=False)
    grey = overlay(photograph, np.zeros((2, 2)), scale)
    assert (grey == grey[..., :1]).all()


def test_where_there_is_no_evidence_the_picture_is_bare(photograph):
    values = np.zeros((64, 96))
    values[:, 48:] = 1
    drawn = overlay(photograph, values, Scale(1.0, signed=False))
    bare = overlay(photograph, np.zeros((64, 96)), Scale(1.0, signed=False))
    np.testing.assert_array_equal(drawn[:, :48], bare[:, :48])
    assert (drawn[:, 48:] != bare[:, 48:]).any(axis=2).all()


def test_evidence_for_and_against_takes_opposite_colours(photograph):
    scale = Scale(1.0, signed=True)
    pro, contra = (overlay(photograph, np.full((4, 4), value), scale).astype(int) for value in (0.9, -0.9))
    assert (pro[..., 0] > pro[..., 2] + 50).all(), "for the class: red"
    assert (contra[..., 2] > contra[..., 0] + 50).all(), "against the class: blue"


def test_half_the_evidence_looks_weaker_on_the_same_scale(photograph):
    values = np.full((4, 4), 1.0)
    scale = shared_scale(values, values / 2)
    bare, weak, strong = (overlay(photograph, share * values, scale).astype(float) for share in (0.0, 0.5, 1.0))
    assert np.abs(strong - bare).mean() > 1.3 * np.abs(weak - bare).mean() > 10


def test_values_beyond_the_limit_take_the_strongest_colour(photograph):
    scale = Scale(1.0, signed=True)
    beyond, at = (overlay(photograph, np.full((2, 2), value), scale) for value in (-7.0, -1.0))
    np.testing.assert_array_equal(beyond, at)


@given(values=st.lists(st.floats(-8, 8, width=32), min_size=12, max_size=12), power=st.integers(-20, 20))
def test_only_the_ratio_to_the_limit_counts(values, power):
    picture = np.full((6, 8, 3), 90, dtype=np.uint8)
    maps = np.array(values, dtype=np.float32).reshape(3, 4)
    factor = 2.0**power
    drawn = overlay(picture, maps, Scale(8.0, signed=True))
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    np.testing.assert_array_equal(drawn, overlay(picture, maps * np.float32(factor), Scale(8.0 * factor, signed=True)))


def test_a_coarse_map_is_enlarged_smoothly():
    picture = np.zeros((16, 64, 3), dtype=np.uint8)
    drawn = overlay(picture, np.array([[0.0, 1.0]]), Scale(1.0, signed=False))
    brightness = drawn.astype(int).sum(axis=2)[8]
    assert (np.diff(brightness[18:46]) >= 0).all()
    assert len(np.unique(brightness)) > 20
    assert drawn.shape == picture.shape


@pytest.mark.parametrize("gap", [np.nan, np.inf])
def test_an_undefined_map_says_so_and_never_looks_like_no_evidence(photograph, gap):
    values = np.zeros((4, 4))
    values[1, 2] = gap
    picture = fit(photograph)
    drawn = overlay(picture, values, Scale(1.0, signed=True))
    np.testing.assert_array_equal(drawn, no_map(picture))
    empty = overlay(picture, np.zeros((4, 4)), Scale(1.0, signed=True))
    assert (drawn != empty).any(axis=2).mean() > 0.5
    label = drawn[48:80, 48:144]
    assert (label == 32).all(axis=2).any(), "a dark label"
    assert (label > 250).all(axis=2).any(), "white words on it"


def test_small_pictures_grow_by_whole_pixels_and_large_ones_shrink():
    small = np.random.default_rng(0).integers(0, 256, (64, 40, 3), dtype=np.uint8)
    grown = fit(small, 192)
    assert grown.shape == (192, 120, 3)
    for row in range(3):
        np.testing.assert_array_equal(grown[row::3, row::3], small)
    assert fit(np.zeros((500, 250, 3), dtype=np.uint8), 192).shape == (192, 96, 3)
    assert fit(np.zeros((3000, 2, 3), dtype=np.uint8), 192).shape == (192, 1, 3)


def test_png_keeps_every_pixel_and_gives_the_same_bytes(photograph):
    np.testing.assert_array_equal(decoded(png(photograph)), photograph)
    assert png(photograph) == png(photograph.copy())
    assert png(photograph, 64) == png(photograph.copy(), 64)


def test_png_with_fewer_colours_is_smaller_and_close(photograph):
    few = png(photograph, 64)
    assert len(few) < 0.6 * len(png(photograph))
    assert len(np.unique(decoded(few).reshape(-1, 3), axis=0)) <= 64
    assert np.abs(decoded(few).astype(int) - photograph).mean() < 12


def test_a_data_uri_holds_the_file(photograph):
    kind, _, text = data_uri(png(photograph)).partition(",")
    assert kind == "data:image/png;base64"
    np.testing.assert_array_equal(decoded(base64.b64decode(text)), photograph)


def test_a_colour_bar_shows_the_colours_of_the_maps():
    grey = np.full((4, 4, 3), 128, dtype=np.uint8)
    bar = colour_bar(signed=True, width=101)
    for place, value in ((0, -3.0), (50, 0.0), (100, 3.0)):
        np.testing.assert_array_equal(
            bar[0, place], overlay(grey, np.full((1, 1), value), Scale(3.0, signed=True))[0, 0]
        )
    np.testing.assert_array_equal(colour_bar(signed=False)[0, 0], bar[0, 50])
