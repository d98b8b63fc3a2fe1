"""Occlusion against sliding windows written anew."""

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers.baselines import baseline_of
from attrail_explainers.errors import ConfigError, ExplanationError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain
from attrail_explainers.methods.occlusion import Occlusion

TARGETS = [3, 1, 0]


@pytest.fixture
def net(small_net):
    """In double precision, so that only the formulas can differ."""
    return nn.Sequential(Doubled(), small_net().double())


class Doubled(nn.Module):
    def forward(self, images):
        return images.double()


def log_odds(net, images, target):
    with torch.no_grad():
        probability = torch.softmax(net.eval()(images), dim=1)[:, target]
    return torch.log(probability / (1 - probability)).numpy()


def drops(net, image, target, window, stride, baseline):
    """Zeiler & Fergus: cover each window in turn; a pixel's value is the mean drop over the windows that cover it."""
    height, width = image.shape[1:]
    sums, counts = np.zeros((height, width)), np.zeros((height, width))
    whole = log_odds(net, image[None], target)[0]
    for top in range(0, height - window + stride, stride):
        for left in range(0, width - window + stride, stride):
            covered, place = image.clone(), (slice(top, top + window), slice(left, left + window))
            covered[:, *place] = baseline_of(image, baseline)[:, *place]
            sums[place] += whole - log_odds(net, covered[None], target)[0]
            counts[place] += 1
    return sums / counts


@pytest.mark.parametrize("baseline", ["blur", "mean", "zero"])
@pytest.mark.parametrize(("window", "stride"), [(16, 8), (20, 13), (30, 30)])
def test_equals_sliding_windows(net, pictures, window, stride, baseline):
    """Also where the last windows reach over the border, and where the image is not square."""
    images = torch.from_numpy(pictures[:3, :, 8:58])
    settings = {"window": window, "stride": stride, "baseline": baseline}
    found = explain(net, images, TARGETS, "occlusion", **settings).values
    expected = np.stack([drops(net, *pair, *settings.values()) for pair in zip(images, TARGETS, strict=True)])
    assert found.shape == (3, 50, 64)
    assert np.abs(expected).max() > 0.1
    assert found == pytest.approx(expected, abs=1e-5)


def test_shares_are_of_the_shorter_side():
    assert Occlusion(1 / 4, 1 / 8).pixels((64, 96)) == (16, 8)
    assert Occlusion(1 / 7, 1 / 14).pixels((224, 224)) == (32, 16)
    assert Occlusion(10, 5).pixels((64, 96)) == (10, 5)
    assert Occlusion(0.5, 1).pixels((9, 9)) == (4, 1)
    assert Occlusion(0.01, 0.01).pixels((9, 9)) == (1, 1)


@pytest.mark.parametrize("name", ["window", "stride"])
@pytest.mark.parametrize("value", [-1, 0, 1.5, float("inf"), float("nan"), "8", None, 10.25])
def test_impossible_lengths_are_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} must be a share .* not {value!r}"):
        make_explainer("occlusion", {name: value})


@pytest.mark.parametrize("settings", [{"window": 0.1, "stride": 0.2}, {"window": 8, "stride": 9}])
def test_pixels_may_not_be_left_out(settings):
    with pytest.raises(ConfigError, match=r"stride .* must not exceed window"):
        make_explainer("occlusion", settings)


def test_lengths_that_do_not_fit_the_images_are_refused(small_net, pictures):
    with pytest.raises(ConfigError, match="window of 65 pixels does not fit images of 64x64"):
        explain(small_net(), pictures, [0] * 6, "occlusion", window=65, stride=1)
    with pytest.raises(ConfigError, match="stride of 32 pixels must not exceed the window of 16"):
        explain(small_net(), pictures, [0] * 6, "occlusion", window=0.25, stride=32)


def test_unknown_baseline_is_refused():
    with pytest.raises(ConfigError, match="baseline must be blur, mean or zero, not 'noise'"):
        make_explainer("occlusion", {"baseline": "noise"})


class Fragile(nn.Module):
    """Gives NaN for the darkened copies of the second picture only."""

    def forward(self, images):
        logits = torch.stack([images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3))], dim=1)
        spoilt = (images[:, 0, 0, 0] == 0) & (images[:, 0, -1, -1] == 0.5)
        return torch.where(spoilt[:, None], torch.nan, logits)


def test_answers_that_are_no_numbers_name_the_image(pictures):
    images = pictures[:3].copy()
    images[1, 0, -1, -1] = 0.5
    settings = {"sample_ids": ["first", "second", "third"], "window": 16, "stride": 16, "baseline": "zero"}
    with pytest.raises(ExplanationError, match="NaN or infinite outputs for perturbed copies of 'second'"):
        explain(Fragile(), images, [0, 0, 0], "occlusion", **settings)
