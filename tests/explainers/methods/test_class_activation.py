"""Grad-CAM++, Layer-CAM and CAM against their papers' formulas, written out with loops or from the model's weights."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from attrail_explainers.errors import ExplanationError, UnsupportedModelError
from attrail_explainers.explanation import explain

TOLERANCE = 1e-5  # of the largest value


class Net(nn.Module):
    """conv -> relu -> a head that is not linear, so that gradients differ from place to place."""

    def __init__(self, linear=False):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 6, 16, stride=16), nn.ReLU())
        self.mix = nn.Conv2d(6, 6, 3, padding=1)
        self.head = nn.Linear(6, 3)
        self.linear = linear

    def forward(self, images):
        found = self.features(images)
        if not self.linear:
            found = torch.sigmoid(self.mix(found))
        return self.head(found.mean(dim=(2, 3)))


@pytest.fixture
def net():
    torch.manual_seed(5)
    return Net()


@pytest.fixture
def whole(net, pictures):
    """Activations and gradients (6,C,h,w) of the target logits at ``features``, by plain autograd."""
    activations = net.features(torch.from_numpy(pictures)).detach().requires_grad_()
    logits = net.head(torch.sigmoid(net.mix(activations)).mean(dim=(2, 3)))
    logits[torch.arange(6), TARGETS].sum().backward()
    return activations.detach().double().numpy(), activations.grad.double().numpy()


TARGETS = [0, 1, 2, 0, 1, 2]


def assert_close(found, expected):
    expected = np.maximum(expected, 0)
    empty = expected.max(axis=(1, 2)) <= 0
    assert (np.isnan(found).all(axis=(1, 2)) == empty).all()
    assert not empty.all()
    assert np.abs(np.nan_to_num(found) - expected).max() <= TOLERANCE * expected.max()


def test_gradcam_plus_plus_is_the_papers_formula(net, pictures, whole):
    activations, gradients = whole
    expected = np.zeros((6, 4, 4))
    for image in range(6):
        for channel in range(6):
            layer, slope = activations[image, channel], gradients[image, channel]
            weight = 0.0
            for row in range(4):
                for column in range(4):
                    g = slope[row, column]
                    below = 2 * g**2 + sum(each * g**3 for each in layer.ravel())
                    weight += (g**2 / below if below else 0.0) * max(g, 0)
            expected[image] += weight * layer
    found = explain(net, pictures, TARGETS, "gradcam_plus_plus", layer="features")
    assert_close(found.values, expected)


def test_gradcam_plus_plus_has_no_least_gradient(pictures):
    """An epsilon in the denominator, as libraries have it, swallows small gradients: maps would not scale."""
    torch.manual_seed(5)
    net = Net(linear=True)
    before = explain(net, pictures, TARGETS, "gradcam_plus_plus").values
    with torch.no_grad():
        net.head.weight.mul_(1e-4)
        net.features[0].weight.mul_(1e4)
        net.features[0].bias.mul_(1e4)
    assert np.nanmax(before) > 0
    assert_close(explain(net, pictures, TARGETS, "gradcam_plus_plus").values, np.nan_to_num(before))


def test_layercam_is_the_papers_formula(net, pictures, whole):
    activations, gradients = whole
    expected = np.zeros((6, 4, 4))
    for channel in range(6):
        expected += np.maximum(gradients[:, channel], 0) * activations[:, channel]
    assert_close(explain(net, pictures, TARGETS, "layercam", layer="features").values, expected)


def test_cam_is_the_heads_weights_on_the_activations(pictures):
    torch.manual_seed(5)
    net = Net(linear=True)
    found = explain(net, pictures, TARGETS, "cam")
    activations = net.features(torch.from_numpy(pictures)).detach().numpy()
    expected = np.einsum("nc,nchw->nhw", net.head.weight.detach().numpy()[TARGETS], activations)
    assert np.abs(found.values - expected).max() <= TOLERANCE * np.abs(expected).max()
    assert found.values.min() < 0 < found.values.max()
    assert not found.undefined


def test_mean_of_a_cam_is_the_logit_less_the_bias(pictures):
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3).eval()
    found = explain(net, pictures, TARGETS, "cam")
    with torch.no_grad():
        logits = net(torch.from_numpy(pictures.copy()))[torch.arange(6), TARGETS].numpy()
    bias = net.get_classifier().bias.detach().numpy()[TARGETS]
    assert found.values.mean(axis=(1, 2)) == pytest.approx(logits - bias, abs=1e-5)


@pytest.mark.parametrize("maker", [Net, lambda: timm.create_model("test_convnext", num_classes=3)])
def test_cam_needs_a_linear_head(maker, pictures):
    """Gradients that differ between places, and gradients that are the same at all places but not in all images."""
    torch.manual_seed(5)
    net = maker()
    layer = {"layer": "features"} if isinstance(net, Net) else {}
    with pytest.raises(UnsupportedModelError, match=r"only average layer '(features|stages)'.*cam needs: use gradcam"):
        explain(net, pictures, TARGETS, "cam", **layer)


@pytest.mark.parametrize("name", ["gradcam_plus_plus", "layercam"])
def test_no_positive_evidence_is_undefined(name, pictures):
    torch.manual_seed(5)
    net = Net(linear=True)
    with torch.no_grad():
        net.head.weight[0] = 1
        net.head.weight[1] = -1
    found = explain(net, pictures, [0, 1, 0, 1, 0, 0], name)
    assert dict(found.undefined) == dict.fromkeys(["1", "3"], "no positive evidence for the target")
    assert np.isnan(found.values[[1, 3]]).all()
    with pytest.raises(ExplanationError, match="no positive evidence"):
        explain(net, pictures, [1] * 6, name)
