"""Superpixels."""

import warnings

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_dilation
from skimage import data
from skimage.feature import canny
from skimage.segmentation import find_boundaries

from attrail_explainers.superpixels.segmentation import Segmentation, is_grid, segment_diagnostics


def halves(channels, left, right):
    image = np.full((channels, 48, 48), left, dtype=np.float32)
    image[:, :, 24:] = right
    return image


def test_same_pixels_same_segments(pictures):
    first, second = Segmentation(20).segment(pictures[0]), Segmentation(20).segment(pictures[0].copy())
    assert first.tobytes() == second.tobytes()


def test_labels_have_no_gaps(pictures):
    for picture in pictures:
        labels = Segmentation(30).segment(picture)
        assert labels.shape == picture.shape[1:]
        assert set(np.unique(labels)) == set(range(labels.max() + 1))
        assert 10 <= labels.max() + 1 <= 45


def test_more_segments_when_asked(pictures):
    counts = [Segmentation(wanted).segment(pictures[3]).max() + 1 for wanted in (4, 16, 64)]
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("factor", [2.0**-20, 0.5, 1024.0])
def test_scale_of_the_pixels_does_not_matter(pictures, factor):
    """Powers of two change no digit of the rescaled image."""
    for picture in pictures:
        expected = Segmentation(12).segment(picture)
        assert expected.max() > 3
        assert (Segmentation(12).segment(picture * np.float32(factor)) == expected).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_segments_keep_to_edges(channels):
    """No superpixel reaches over the edge between the halves, in gray, colour and four channels alike."""
    labels = Segmentation(9).segment(halves(channels, -1, 1))
    assert not set(np.unique(labels[:, :24])) & set(np.unique(labels[:, 24:]))


def test_compactness_straightens_segments(pictures):
    def border(compactness):
        labels = Segmentation(25, compactness).segment(pictures[1])
        return (np.diff(labels, axis=0) != 0).sum() + (np.diff(labels, axis=1) != 0).sum()

    assert border(1000.0) < border(1.0)


def test_constant_image_has_segments_too():
    labels = Segmentation(16).segment(np.full((3, 32, 32), 7, dtype=np.float32))
    assert set(np.unique(labels)) == set(range(labels.max() + 1))


@pytest.fixture(scope="module")
def photographs():
    """Four photographs (3,224,224) on 0..1."""
    sources = (data.astronaut, data.chelsea, data.coffee, data.rocket)
    small = [np.asarray(Image.fromarray(source()).resize((224, 224))) for source in sources]
    return np.stack(small).transpose(0, 3, 1, 2) / np.float32(255)


def with_channels(photograph, channels):
    """The photograph in gray, in colour, or in colour with more channels that show the same edges."""
    gray = np.float32([0.299, 0.587, 0.114]) @ photograph.reshape(3, -1)
    gray = gray.reshape(1, *photograph.shape[1:])
    return {1: gray, 3: photograph, 4: np.concatenate([photograph, gray]), 6: np.concatenate([photograph] * 2)}[
        channels
    ]


def recall(labels, edges):
    """Share of the edges within two pixels of a border between superpixels."""
    return binary_dilation(find_boundaries(labels), iterations=2)[edges].mean()


@pytest.mark.parametrize("channels", [1, 3, 4, 6])
def test_superpixels_of_photographs_follow_edges(photographs, channels):
    """They find a third more edges than a grid of twice as many cells, whose borders are about as long in all."""
    grid, found, by_grid = Segmentation(64).grid((224, 224)), [], []
    for photograph in photographs:
        edges = canny(with_channels(photograph, 1)[0], sigma=2)
        labels = Segmentation(32).segment(with_channels(photograph, channels))
        assert find_boundaries(labels).mean() < 1.15 * find_boundaries(grid).mean()
        found.append(recall(labels, edges))
        by_grid.append(recall(grid, edges))
    assert np.mean(found) > 4 / 3 * np.mean(by_grid)


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_gray_and_many_channels_are_cut_about_as_colour_is(photographs, channels):
    """Where colour borders run, so do the others': no chessboard (scikit-image#5093)."""
    found = []
    for photograph in photographs:
        colour = find_boundaries(Segmentation(32).segment(photograph))
        found.append(recall(Segmentation(32).segment(with_channels(photograph, channels)), colour))
        assert found[-1] > 1.4 * recall(Segmentation(49).grid((224, 224)), colour)
    assert np.mean(found) > 0.55


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("gray", [False, True])
def test_superpixels_keep_to_a_known_shape(channels, gray):
    """A disc on a ground that are both uneven: hardly a superpixel takes part in both."""
    row, column = np.mgrid[:96, :128]
    disc = (row - 50) ** 2 + (column - 60) ** 2 < 30**2
    uneven = np.random.default_rng(0).normal(0, 0.02, (96, 128))
    image = np.where(disc, np.linspace(0.7, 0.7 if gray else 1, channels)[:, None, None], 0.3) + uneven
    labels = Segmentation(24).segment(image.astype(np.float32))
    inside = np.bincount(labels.ravel(), weights=disc.ravel()) / np.bincount(labels.ravel())
    astray = np.minimum(inside, 1 - inside) @ np.bincount(labels.ravel()) / disc.size
    assert astray < 0.02


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(2, 2), (1, 5), (3, 7), (8, 8), (33, 47), (28, 28), (97, 31)])
@pytest.mark.parametrize("kind", ["noise", "constant", "halves"])
def test_any_size_has_superpixels(channels, size, kind):
    generator = np.random.default_rng(0)
    image = generator.random((channels, *size), dtype=np.float32) if kind == "noise" else np.zeros((channels, *size))
    image[:, :, : size[1] // 2] += kind == "halves"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        labels = Segmentation(16).segment(image.astype(np.float32))
    assert labels.shape == size
    assert set(np.unique(labels)) == set(range(labels.max() + 1))
    assert 2 <= labels.max() + 1 <= max(32, 64)


def test_one_pixel_is_one_superpixel():
    assert Segmentation(16).segment(np.zeros((3, 1, 1), dtype=np.float32)).tolist() == [[0]]


@pytest.mark.parametrize(("size", "cells"), [((96, 96), (4, 4)), ((60, 240), (2, 8)), ((240, 60), (8, 2))])
def test_noise_falls_back_to_a_grid(size, cells):
    noise = np.random.default_rng(0).random((3, *size), dtype=np.float32)
    labels = Segmentation(16).segment(noise)
    assert is_grid(labels)
    assert len(np.unique(labels[:, 0])) == cells[0]
    assert len(np.unique(labels[0])) == cells[1]
    assert (labels == Segmentation(16).grid(size)).all()
    assert np.ptp(np.bincount(labels.ravel())) == 0


def test_grid_is_told_from_superpixels(pictures):
    assert is_grid(np.arange(12).reshape(3, 4))
    assert is_grid(np.zeros((3, 4), dtype=np.int64))
    assert not is_grid(np.array([[0, 0, 1], [0, 1, 1]]))
    assert not any(is_grid(Segmentation(20).segment(picture)) for picture in pictures)


def test_only_one_segment_when_one_is_asked_for():
    assert Segmentation(1).grid((8, 12)).max() == 0


def test_diagnostics_count_superpixels_and_pixels():
    assert segment_diagnostics(np.array([[0, 0, 1], [2, 2, 2]])) == {"segments": 3.0, "smallest_segment": 1.0}
