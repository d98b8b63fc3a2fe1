"""Gradient methods against captum: on the same images, and where something is drawn, with the same draws."""

import numpy as np
import pytest
import torch
from captum.attr import GradientShap, InputXGradient, IntegratedGradients, NoiseTunnel, Saliency
from torch import nn

from attrail_explainers.baselines import baseline_of
from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.explainer import Need, explainer_class, explainer_names, make_explainer
from attrail_explainers.explanation import explain

TARGETS = [0, 1, 2, 3, 4, 0]
BASELINES = ["blur", "mean", "zero"]
FAMILY = ["saliency", "input_x_gradient", "integrated_gradients", "smoothgrad", "gradient_shap", "deeplift", "lrp"]


@pytest.fixture
def net(small_net):
    """For captum: in evaluation mode and with nothing in place."""
    net = small_net().eval()
    for module in net.modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    return net


@pytest.fixture
def images(pictures):
    return torch.from_numpy(pictures.copy())


def assert_close(found, expected, tolerance=1e-5):
    """Equal to within a share of the largest value."""
    expected = expected.detach().numpy()
    assert np.abs(expected).max() > 0
    assert np.abs(np.asarray(found) - expected).max() <= tolerance * np.abs(expected).max()


def baselines(images, kind):
    return torch.stack([baseline_of(image, kind) for image in images])


def logits_of(net, images, targets):
    with torch.no_grad():
        return net(images)[torch.arange(len(images)), torch.as_tensor(targets)].double().numpy()


def test_saliency_equals_captum(net, images):
    expected = Saliency(net).attribute(images.clone().requires_grad_(), target=TARGETS).amax(dim=1)
    assert_close(explain(net, images, TARGETS, "saliency").values, expected)


def test_input_x_gradient_equals_captum(net, images):
    expected = InputXGradient(net).attribute(images.clone().requires_grad_(), target=TARGETS).sum(dim=1)
    assert_close(explain(net, images, TARGETS, "input_x_gradient").values, expected)


@pytest.mark.parametrize("kind", BASELINES)
def test_integrated_gradients_equal_captum(net, images, kind):
    captum = IntegratedGradients(net)
    expected = captum.attribute(images, baselines(images, kind), target=TARGETS, n_steps=20).sum(dim=1)
    found = explain(net, images, TARGETS, "integrated_gradients", steps=20, baseline=kind)
    assert_close(found.values, expected)
    change = logits_of(net, images, TARGETS) - logits_of(net, baselines(images, kind), TARGETS)
    missing = found.values.sum(axis=(1, 2), dtype=np.float64) - change
    assert found.diagnostics["completeness_residual"] == pytest.approx(missing, abs=1e-5)


def test_integrated_gradients_are_complete_with_steps_enough(net, images):
    rough, fine = (explain(net, images, TARGETS, "integrated_gradients", steps=steps) for steps in (2, 200))
    rough, fine = (np.abs(each.diagnostics["completeness_residual"]).max() for each in (rough, fine))
    assert fine < 0.01 < rough


def test_smoothgrad_equals_captum_with_the_same_noise(net, images, monkeypatch):
    method = make_explainer("smoothgrad", {"samples": 7, "noise": 0.3})
    found = explain(net, images, TARGETS, "smoothgrad", seed=5, samples=7, noise=0.3)
    tunnel = NoiseTunnel(Saliency(net))
    for row, image in enumerate(images):
        copies = method.noisy(image, 5, str(row))
        monkeypatch.setattr(torch, "normal", lambda mean, deviations, copies=copies, image=image: copies - image)
        expected = tunnel.attribute(
            image[None], nt_type="smoothgrad", nt_samples=7, target=TARGETS[row], stdevs=1.0, abs=False
        )
        assert_close(found.values[row], expected[0].abs().amax(dim=0))


def test_noise_is_a_share_of_the_images_range(images):
    image = images[0] * 3 + 1
    copies = make_explainer("smoothgrad", {"samples": 50, "noise": 0.2}).noisy(image, 0, "a")
    assert (copies - image).std().item() == pytest.approx(0.2 * (image.max() - image.min()).item(), rel=0.01)
    assert (copies - image).mean().abs().item() < 0.01


def test_smoothgrad_without_noise_is_saliency(net, images):
    found = explain(net, images, TARGETS, "smoothgrad", samples=2, noise=1e-9)
    assert_close(found.values, torch.from_numpy(explain(net, images, TARGETS, "saliency").values), 1e-4)


def test_gradient_shap_equals_captum_with_the_same_draws(net, images, monkeypatch):
    samples = 8
    found = explain(net, images, TARGETS, "gradient_shap", seed=5, samples=samples)
    for row, image in enumerate(images):
        kinds, shares = make_explainer("gradient_shap", {"samples": samples}).draws(5, str(row))
        drawn = torch.stack([baseline_of(image, kind) for kind in BASELINES])
        monkeypatch.setattr(np.random, "choice", lambda *args, kinds=kinds: kinds)
        monkeypatch.setattr(np.random, "uniform", lambda *args, shares=shares: shares)
        captum = GradientShap(net).attribute(image[None], drawn, n_samples=samples, stdevs=0.0, target=TARGETS[row])
        monkeypatch.undo()
        assert_close(found.values[row], captum[0].sum(dim=0))
        empty = logits_of(net, drawn, [TARGETS[row]] * 3)[kinds].mean()
        missing = found.values[row].sum(dtype=np.float64) - (
            logits_of(net, image[None], TARGETS[row : row + 1]) - empty
        )
        assert found.diagnostics["completeness_residual"][row] == pytest.approx(missing[0], abs=1e-5)


@pytest.mark.parametrize("samples", [3, 8, 64])
def test_gradient_shap_deals_points_out_evenly(samples):
    kinds, shares = make_explainer("gradient_shap", {"samples": samples}).draws(0, "a")
    counts = np.bincount(kinds, minlength=3)
    assert counts.sum() == samples
    assert counts.max() - counts.min() <= 1
    for kind, count in enumerate(counts):
        assert np.floor(np.sort(shares[kinds == kind]) * count).tolist() == list(range(count))


def test_gradient_shap_is_integrated_gradients_averaged_over_the_baselines(net, images):
    """In expectation, hence with points enough."""
    found = explain(net, images, TARGETS, "gradient_shap", samples=300).values
    each = [
        explain(net, images, TARGETS, "integrated_gradients", steps=100, baseline=kind).values for kind in BASELINES
    ]
    assert_close(found, torch.from_numpy(np.mean(each, axis=0)), 0.02)


@pytest.mark.parametrize("name", FAMILY)
def test_a_caller_without_gradients_gets_the_same_map(small_net, images, name):
    usual = explain(small_net(), images, TARGETS, name)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            found = explain(small_net(), images, TARGETS, name)
        assert found.values.tobytes() == usual.values.tobytes()


class Hidden(nn.Module):
    """What it says depends on the image, but no gradient tells."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, images):
        return self.head(images.mean(dim=(2, 3)).detach())


@pytest.mark.parametrize("name", [*FAMILY, "guided_backprop"])
def test_model_without_a_gradient_is_unsupported(pictures, name):
    with pytest.raises(UnsupportedModelError, match="no gradient leads back"):
        explain(Hidden(), pictures, TARGETS, name)


class Brightest(nn.Module):
    """Class 0 has a root whose slope at 0 is infinite, class 1 looks at nothing."""

    def forward(self, images):
        total = (images - images.amin(dim=(2, 3), keepdim=True)).sum(dim=(1, 2, 3))
        return torch.stack([total.sqrt(), total * 0, total], dim=1)


def test_maps_without_numbers_or_without_influence_are_undefined(pictures):
    images = np.concatenate([pictures[:3], np.ones_like(pictures[:1])])
    found = explain(Brightest(), images, [0, 1, 2, 0], "saliency")
    assert set(found.undefined) == {"1", "3"}
    assert "zero everywhere" in found.undefined["1"]
    assert "not finite" in found.undefined["3"]
    assert np.isnan(found.values[[1, 3]]).all()
    assert np.isfinite(found.values[[0, 2]]).all()


@pytest.mark.parametrize("name", ["integrated_gradients", "deeplift"])
@pytest.mark.parametrize("kind", ["black", None, 3])
def test_unknown_baseline_is_refused(name, kind):
    with pytest.raises(ConfigError, match="baseline must be blur, mean or zero"):
        make_explainer(name, {"baseline": kind})


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("integrated_gradients", {"steps": 1.5}),
        ("smoothgrad", {"samples": -1}),
        ("smoothgrad", {"noise": float("inf")}),
        ("gradient_shap", {"samples": 2}),
        ("lrp", {"epsilon": -0.1}),
    ],
)
def test_impossible_parameters_are_refused(name, parameters):
    with pytest.raises(ConfigError, match=next(iter(parameters))):
        make_explainer(name, parameters)


def test_all_of_them_need_gradients():
    assert set(FAMILY) < set(explainer_names())
    assert all(Need.GRADIENTS in explainer_class(name).needs for name in [*FAMILY, "guided_backprop"])
