"""Feature ablation against its definition."""

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers.baselines import baseline_of
from attrail_explainers.errors import ConfigError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain
from attrail_explainers.methods.feature_ablation import FeatureAblation
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.tasks.single_label import SingleLabel

TARGETS = [3, 1, 0]


class Double(nn.Module):
    """The net in double precision, so that only the formulas can differ."""

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, images):
        return self.net(images.double())


def log_odds(net, images, target):
    with torch.no_grad():
        probability = torch.softmax(net.eval()(images), dim=1)[:, target]
    return torch.log(probability / (1 - probability)).numpy()


@pytest.mark.parametrize("baseline", ["blur", "mean", "zero"])
def test_equals_the_drop_without_each_superpixel(small_net, pictures, baseline):
    """The pictures have different numbers of superpixels."""
    net, images, counts = Double(small_net()), torch.from_numpy(pictures[:3]), []
    found = explain(net, images, TARGETS, "feature_ablation", segments=20, baseline=baseline)
    for row, (image, target) in enumerate(zip(images, TARGETS, strict=True)):
        labels = Segmentation(20).segment(image.numpy())
        counts.append(labels.max() + 1)
        whole = log_odds(net, image[None], target)[0]
        for segment in range(counts[-1]):
            inside = torch.from_numpy(labels == segment)
            without = torch.where(inside, baseline_of(image, baseline), image)
            drop = whole - log_odds(net, without[None], target)[0]
            assert found.values[row][labels == segment] == pytest.approx(drop, abs=1e-5)
    assert np.abs(found.values).max() > 0.1
    assert len(set(counts)) > 1
    assert found.diagnostics["segments"].tolist() == counts
    assert (found.diagnostics["smallest_segment"] > 0).all()


def test_grid_in_noise_is_recorded(small_net, pictures):
    images = pictures[:2].copy()
    images[1] = np.random.default_rng(0).uniform(-1, 1, (3, 64, 64))
    found = explain(small_net(), images, [0, 1], "feature_ablation", segments=16)
    assert found.diagnostics["grid"].tolist() == [0, 1]
    assert found.diagnostics["smallest_segment"][1] == 16 * 16


def test_image_without_parts_is_undefined(small_net, pictures):
    images = torch.from_numpy(pictures[:2])
    model = Classifier("net", "1", small_net()).working_copy(images)
    maps = FeatureAblation(segments=1).attribute(Subject(model, images, SingleLabel.of([0, 1]), ("a", "b"), 0))
    assert maps.undefined == dict.fromkeys([0, 1], "fewer than two superpixels")
    assert np.isnan(maps.values).all()


def test_unknown_baseline_is_refused():
    with pytest.raises(ConfigError, match="baseline must be blur, mean or zero, not 'noise'"):
        make_explainer("feature_ablation", {"baseline": "noise"})
