"""Pictures of curves."""

import io

import numpy as np
import pytest
from PIL import Image

from attrail_monitoring.pictures.curves import CHANCE, OWN, CurvePanel, draw_curves


def pixels(file: bytes):
    return np.asarray(Image.open(io.BytesIO(file)).convert("RGB")).astype(int)


def near(picture, colour: str):
    wanted = [int(colour[place : place + 2], 16) for place in (1, 3, 5)]
    return (np.abs(picture - wanted).max(axis=2) < 12).sum()


@pytest.fixture
def panel():
    falling = np.linspace(1, 0, 9) ** 2
    return CurvePanel("deletion", "pixels removed (%)", np.stack([falling, falling * 0.8]), np.full((2, 9), 0.5))


def test_both_curves_are_drawn_and_the_same_numbers_give_the_same_bytes(panel) -> None:
    first, second = (draw_curves([panel, panel], "gradcam") for _ in range(2))
    assert first == second
    picture = pixels(first)
    assert near(picture, OWN) > 300
    assert near(picture, CHANCE) > 300


def test_images_without_a_map_do_not_count(panel) -> None:
    nothing = np.full((1, 9), np.nan)
    some = CurvePanel(
        panel.title, panel.across, *(np.concatenate([each, nothing]) for each in (panel.curves, panel.chance))
    )
    assert draw_curves([some], "gradcam") == draw_curves([panel], "gradcam")
    assert near(pixels(draw_curves([CurvePanel("none", "", nothing, nothing)], "")), OWN) == 0
