"""Copies of an image with superpixels replaced, and what replaces them."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import gaussian_blur

from attrail_explainers.baselines import baseline_of
from attrail_explainers.superpixels.masking import Mosaic


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_every_pixel_is_exactly_the_images_or_the_baselines(channels: int) -> None:
    generator = np.random.default_rng(channels)
    image, baseline = (torch.from_numpy(generator.normal(size=(channels, 9, 7)).astype(np.float32)) for _ in range(2))
    segments = generator.integers(0, 4, (9, 7))
    rows = generator.random((6, 4)) < 0.5
    kept = torch.from_numpy(rows[:, segments])[:, None]
    expected = torch.where(kept, image, baseline)
    assert torch.equal(Mosaic(image, baseline, segments).keeping(rows), expected)


@pytest.mark.parametrize("shape", [(3, 64, 48), (1, 28, 31), (4, 7, 9)])
def test_the_blurred_baseline_is_torchvisions(shape: tuple[int, ...]) -> None:
    image = torch.from_numpy(np.random.default_rng(0).random(shape, dtype=np.float32))
    sigma = min(shape[1:]) / 8
    expected = gaussian_blur(image, [2 * int(3 * sigma) + 1] * 2, [sigma] * 2)
    torch.testing.assert_close(baseline_of(image, "blur"), expected, rtol=0, atol=1e-5)
