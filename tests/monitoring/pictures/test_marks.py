"""Marks on pictures: what a row asks about is outlined, whatever lies under it."""

import numpy as np

from attrail_explainers.slice import Slice
from attrail_monitoring.pictures.marks import LINE, frame, lines_of, marked, outline


def asking(zone):
    images = np.zeros((1, 3, 16, 16), np.float32)
    return Slice("s", images, np.zeros(1, np.int64), ("a",), facts={"zone": zone[None]})


def test_a_coarse_zone_is_outlined_where_it_lies_on_the_picture():
    zone = np.zeros((4, 4), np.bool_)
    zone[1:3, 0:2] = True
    lines = lines_of(asking(zone), 0, (32, 32))
    rows, columns = np.nonzero(lines)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (8, 23, 0, 15)
    assert not lines[10:22, 2:14].any(), "the zone itself stays to be seen"


def test_a_line_shows_over_white_and_over_its_own_colour():
    lines = outline(np.ones((2, 2), np.bool_), (16, 16), (16, 16))
    white = np.full((16, 16, 3), 255, np.uint8)
    drawn = marked(white, lines)
    assert (drawn[lines] == LINE).all()
    assert (drawn[1, 1] == 0).all()
    assert (drawn[8, 8] == 255).all()


def test_a_row_about_the_whole_image_and_an_empty_zone_stay_bare():
    plain = Slice("s", np.zeros((1, 3, 16, 16), np.float32), np.zeros(1, np.int64), ("a",))
    picture = np.full((16, 16, 3), 9, np.uint8)
    for each in (plain, asking(np.zeros((4, 4), np.bool_))):
        assert (marked(picture, lines_of(each, 0, (16, 16))) == picture).all()


def test_a_box_is_framed_where_it_lies_and_is_seen_however_small():
    images = np.zeros((1, 3, 16, 16), np.float32)
    boxes = np.float32([[0.25, 0.5, 0.75, 1.0]])
    slice_ = Slice("s", images, np.zeros(1, np.int64), ("a",), facts={"box": boxes})
    lines = lines_of(slice_, 0, (32, 64))
    rows, columns = np.nonzero(lines)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (16, 31, 16, 47)
    assert not lines[18:30, 18:46].any()
    assert frame(np.float32([1, 1, 1, 1]), (16, 16), (16, 16)).sum() == 1
