"""Superpixels."""

import numpy as np
import pytest

from attrail_explainers.segmentation import Segmentation


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
