"""Guided backpropagation, DeepLIFT and LRP: against captum and shap where these can, else against formulas."""

from functools import partial

import numpy as np
import pytest
import shap
import timm
import torch
import torchvision
from captum.attr import LRP, DeepLift, GuidedBackprop, InputXGradient, IntegratedGradients
from captum.attr._utils.lrp_rules import EpsilonRule
from torch import nn
from torch.nn import functional

from attrail_explainers.baselines import baseline_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain, explain_slice
from attrail_explainers.gradients.backward_rules import slope_between
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.slice import Slice

TARGETS = [0, 1, 2, 3, 4, 0]
METHODS = ["guided_backprop", "deeplift", "lrp"]
EPSILON = 0.3


class Net(nn.Module):
    """What captum's hooks support, with three activations of the caller's choice.

    No overlapping pools: captum and shap keep one window's share of a place that is the largest in several.
    """

    def __init__(self, *activations):
        super().__init__()
        torch.manual_seed(7)
        self.conv1, self.norm, self.pool = nn.Conv2d(3, 8, 5, stride=2), nn.BatchNorm2d(8), nn.MaxPool2d(2)
        self.conv2, self.average = nn.Conv2d(8, 12, 3, padding=1), nn.AdaptiveAvgPool2d(3)
        self.hidden, self.head = nn.Linear(108, 16), nn.Linear(16, 5)
        nn.init.normal_(self.norm.running_mean, 0, 0.2)
        nn.init.uniform_(self.norm.running_var, 0.05, 0.2)
        self.first, self.second, self.third = activations
        self.eval()

    def forward(self, images):
        grid = self.pool(self.first(self.norm(self.conv1(images))))
        places = self.average(self.second(self.conv2(grid)))
        return self.head(self.third(self.hidden(places.flatten(1))))


def plain():
    return Net(nn.ReLU(), nn.ReLU(), nn.ReLU())


def effect(overwrite):
    """What is returned is not what the operation returns."""

    def activation(values):
        overwrite(values)
        return values

    return activation


VARIANTS = {
    "reused": lambda: Net(*[nn.ReLU()] * 3),
    "in place": lambda: Net(*[nn.ReLU(inplace=True)] * 3),
    "functional": lambda: Net(functional.relu, torch.relu, torch.Tensor.relu),
    "functional in place": lambda: Net(torch.Tensor.relu_, functional.relu_, partial(functional.relu, inplace=True)),
    "in place for the effect": lambda: Net(*[effect(torch.Tensor.relu_)] * 3),
    "operators": lambda: Net(*[torch.ops.aten.relu.default, torch.ops.aten.relu, torch.ops.aten.relu_.default]),
}


@pytest.fixture
def images(pictures):
    return torch.from_numpy(pictures.copy())


@pytest.fixture
def baselines(images):
    return torch.stack([baseline_of(image, "blur") for image in images])


def assert_close(found, expected, tolerance=1e-5):
    """Equal to within a share of the largest value."""
    expected = np.asarray(torch.as_tensor(expected).detach())
    assert np.abs(expected).max() > 0
    assert np.abs(np.asarray(found) - expected).max() <= tolerance * np.abs(expected).max()


def maps(net, images, method, targets=TARGETS, **parameters):
    return explain(net, images, targets, method, **parameters).values


def exported(net, images, path):
    program = torch.export.export(net, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path)
    return classifier_from_export(path, "net", "1")


def maps_of(classifier, images, method, targets=TARGETS):
    labels = np.array(targets)
    slice_ = Slice("s", images.numpy(), labels, tuple(str(row) for row in range(len(labels))))
    return explain_slice(classifier, slice_, [make_explainer(method)], labels, seed=0)[0].values


def calibrated(net, images):
    """Batch norms get the pictures' own statistics, so that a random deep net tells pictures apart."""
    norms = [each for each in net.modules() if isinstance(each, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        net(images)
    return net.eval()


# -- captum and shap, on the one net that hooks can follow -------------------------------------------------------------


def test_guided_backprop_equals_captum(images):
    expected = GuidedBackprop(plain()).attribute(images.clone().requires_grad_(), target=TARGETS).sum(dim=1)
    assert_close(maps(plain(), images, "guided_backprop"), expected)


@pytest.mark.parametrize("kind", ["blur", "mean", "zero"])
def test_deeplift_equals_captum(images, kind):
    """With an average pool: beside a ReLU, captum's own maps through a maximum do not sum to the change."""
    baselines = torch.stack([baseline_of(image, kind) for image in images])
    nets = plain(), plain()
    for net in nets:
        net.pool = nn.AvgPool2d(2)
    expected = DeepLift(nets[0]).attribute(images.clone().requires_grad_(), baselines, target=TARGETS).sum(dim=1)
    assert_close(maps(nets[1], images, "deeplift", baseline=kind), expected, 1e-4)


def test_deeplift_equals_shap(images, baselines):
    found = maps(plain(), images, "deeplift")
    for row, target in enumerate(TARGETS):
        explainer = shap.DeepExplainer(plain(), baselines[row : row + 1])
        expected = explainer.shap_values(images[row : row + 1], check_additivity=False)[0, ..., target].sum(axis=0)
        assert_close(found[row], expected, 1e-4)


def test_lrp_equals_captum(images):
    """captum's epsilon is a number of its own for each layer: here the same share of each place's root mean square."""
    net, rules = plain(), {}

    def set_rule(module, arguments, outputs):
        rules[module] = EpsilonRule(EPSILON * outputs.square().mean(dim=1, keepdim=True).sqrt())

    layers = (net.conv1, net.conv2, net.hidden, net.head)
    handles = [layer.register_forward_hook(set_rule) for layer in layers]
    with torch.no_grad():
        net(images)
    for layer, handle in zip(layers, handles, strict=True):
        handle.remove()
        layer.rule = rules[layer]
    expected = LRP(net).attribute(images.clone().requires_grad_(), target=TARGETS).sum(dim=1)
    assert_close(maps(plain(), images, "lrp", epsilon=EPSILON), expected, 1e-4)


def test_lrp_without_epsilon_is_input_x_gradient_where_all_is_relu(images):
    expected = InputXGradient(plain()).attribute(images.clone().requires_grad_(), target=TARGETS).sum(dim=1)
    assert_close(maps(plain(), images, "lrp", epsilon=1e-12), expected)


# -- the same net in forms that hooks cannot follow --------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("method", METHODS)
def test_form_does_not_matter(images, method, variant):
    assert_close(maps(VARIANTS[variant](), images, method), maps(plain(), images, method))


@pytest.mark.parametrize("variant", ["reused", "functional", "functional in place"])
def test_export_does_not_matter(images, variant, tmp_path):
    net = VARIANTS[variant]()
    archive = exported(net, images, tmp_path / "net.pt2")
    for method in METHODS:
        assert_close(maps_of(archive, images, method), maps(plain(), images, method))


def test_export_for_single_images_does_not_matter(images, tmp_path):
    torch.export.save(torch.export.export(plain(), (images[:1],)), tmp_path / "net.pt2")
    archive = classifier_from_export(tmp_path / "net.pt2", "net", "1")
    assert archive.batch_size == 1
    for method in METHODS:
        assert_close(maps_of(archive, images, method), maps(plain(), images, method))


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("name", ["normalize", "norm", "layer_norm", "group_norm", "attention", "glu"])
def test_export_of_a_composite_operation_does_not_matter(images, method, name, tmp_path):
    """An archive holds some of them in parts."""
    archive = exported(Single(MIXED[name]), images, tmp_path / "net.pt2")
    assert_close(maps_of(archive, images, method), maps(Single(MIXED[name]), images, method))


REAL = {
    "resnet18": partial(torchvision.models.resnet18, num_classes=5),
    "mobilenet_v3_small": partial(torchvision.models.mobilenet_v3_small, num_classes=5),
    "test_efficientnet": partial(timm.create_model, "test_efficientnet", num_classes=5),
    "test_vit": partial(timm.create_model, "test_vit", num_classes=5, img_size=64),
    "test_convnext": partial(timm.create_model, "test_convnext", num_classes=5),
    "torchvision vit": partial(torchvision.models.VisionTransformer, 64, 16, 2, 2, 32, 64, num_classes=5),
}
WITH_RELU = {"resnet18", "mobilenet_v3_small"}


@pytest.fixture(params=REAL)
def real(request, images):
    """A real architecture with a random head, and its name."""
    torch.manual_seed(0)
    net = calibrated(REAL[request.param](), images)
    last = [each for each in net.modules() if isinstance(each, nn.Linear)][-1]
    nn.init.normal_(last.weight)
    return request.param, net


def test_real_models(real, images, baselines, tmp_path):
    """DeepLIFT is complete with attention, gates and normalisation in between; exports give the same maps."""
    name, net = real
    images, baselines, targets = images[:3], baselines[:3], TARGETS[:3]
    found = explain(net, images, targets, "deeplift")
    with torch.no_grad():
        change = (net(images) - net(baselines))[range(3), targets].double().numpy()
    assert np.abs(change).min() > 0.01
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(change, rel=1e-4)
    assert np.abs(found.diagnostics["completeness_residual"]).max() < 1e-4 * np.abs(change).max()
    archive = exported(net, images, tmp_path / "net.pt2")
    for method in METHODS if name in WITH_RELU else METHODS[1:]:
        assert_close(maps_of(archive, images, method, targets), maps(net, images, method, targets))


class Ceiling(nn.Module):
    def forward(self, values):
        return values.clamp(max=6)


# -- guided backpropagation --------------------------------------------------------------------------------------------


def test_relu6_is_guided_in_every_form(images, tmp_path):
    """An archive holds it as aten.hardtanh(0, 6)."""
    expected = maps(Net(*[nn.ReLU6()] * 3), images, "guided_backprop")
    for relu6 in (functional.relu6, partial(functional.hardtanh, min_val=0.0, max_val=6.0, inplace=True)):
        assert_close(maps(Net(*[relu6] * 3), images, "guided_backprop"), expected)
    archive = exported(Net(*[nn.ReLU6(inplace=True)] * 3), images, tmp_path / "net.pt2")
    assert_close(maps_of(archive, images, "guided_backprop"), expected)
    captum = nn.Sequential(plain())
    captum[0].first, captum[0].second, captum[0].third = (nn.Sequential(nn.ReLU(), Ceiling()) for _ in range(3))
    guided = GuidedBackprop(captum).attribute(images.clone().requires_grad_(), target=TARGETS).sum(dim=1)
    assert_close(expected, guided)
    with torch.no_grad():
        assert (plain().norm(plain().conv1(images)) > 6).any()


@pytest.mark.parametrize("activation", [nn.GELU, nn.SiLU, nn.Hardtanh, nn.Identity])
def test_guided_backprop_needs_a_relu(images, activation):
    with pytest.raises(UnsupportedModelError, match="has no ReLU"):
        explain(Net(*[activation()] * 3), images, TARGETS, "guided_backprop")


# -- single operations: DeepLIFT and LRP in closed form ----------------------------------------------------------------


class Single(nn.Module):
    """A function of each pixel, then a sum with weights: what a map must be can be written down."""

    def __init__(self, function):
        super().__init__()
        torch.manual_seed(1)
        self.function, self.weight = function, nn.Parameter(torch.randn(5, 3, 64, 64))

    def forward(self, images):
        return torch.einsum("nchw,kchw->nk", self.function(images * 4), self.weight)


def expected_of(net, images, references):
    """Each pixel's change, times its weight."""
    change = net.function(images * 4) - net.function(references * 4)
    return (change * net.weight[TARGETS]).sum(dim=1)


ACTIVATIONS = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 2.0),
    "clamp": lambda x: x.clamp(-0.5, 2.0),
    "leaky_relu": nn.LeakyReLU(0.2, inplace=True),
    "prelu": nn.PReLU(3),
    "elu": nn.ELU(),
    "silu": functional.silu,
    "handmade silu": lambda x: x.mul(x.sigmoid()),
    "gelu": nn.GELU(),
    "tanh gelu": nn.GELU(approximate="tanh"),
    "hardswish": functional.hardswish,
    "tanh": torch.tanh_,
    "mish": nn.Mish(),
    "softplus": nn.Softplus(),
    "power": lambda x: x**3,
    "absolute": abs,
    "exponential": torch.exp,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": nn.Hardsigmoid(),
    "root": lambda x: torch.sqrt(x + 5),
    "inverse": lambda x: 1 / (x + 5),
    "quotient": lambda x: (x + 5).reciprocal_().div_(2.0),
    "keyword": lambda x: torch.relu(input=x),
}
GATED = {"handmade silu", "sigmoid", "hardsigmoid", "root", "inverse", "quotient"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_deeplift_of_one_activation(images, baselines, name):
    """The rescale rule, word for word; a product of two functions of one pixel is complete too."""
    net = Single(ACTIVATIONS[name])
    assert_close(maps(net, images, "deeplift"), expected_of(net, images, baselines), 2e-5)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - GATED))
def test_lrp_of_one_activation(images, name):
    """All relevance goes through, but for a constant part, which is a bias."""
    net = Single(ACTIVATIONS[name])
    assert_close(maps(net, images, "lrp"), expected_of(net, images, images * 0), 2e-5)


def test_slope_of_a_change_lost_in_rounding_is_the_gradient():
    inputs = torch.linspace(-2, 2, 401)
    found = slope_between(functional.silu, inputs, torch.nextafter(inputs, torch.tensor(9.0)))
    gate = torch.sigmoid(inputs)
    assert_close(found, gate * (1 + inputs * (1 - gate)))


@pytest.mark.parametrize("method", METHODS[1:])
def test_function_of_two_that_both_depend_keeps_its_gradient(images, method):
    net = Single(lambda x: torch.pow(2 + 0 * x, x))
    slope = np.log(2) * net.function(images * 4).detach() * 4 * net.weight[TARGETS]
    parameters = {"baseline": "zero"} if method == "deeplift" else {}
    assert_close(maps(net, images, method, **parameters), (slope * images).sum(dim=1))


def test_lrp_holds_gates_constant(images):
    """The signal gets all that it passes through a gate, whichever way the gate is written."""
    expected = maps(Single(functional.silu), images, "lrp")
    assert_close(maps(Single(lambda x: x * torch.sigmoid(x)), images, "lrp"), expected)
    assert_close(maps(Single(lambda x: x / (1 + torch.exp(-x))), images, "lrp"), expected)


def test_lrp_halves_a_product_of_two_signals(images):
    """So that relevance is kept: a square has exactly its own value."""
    net = Single(lambda x: x * torch.tanh(x))
    assert_close(maps(net, images, "lrp"), expected_of(net, images, images * 0))


def test_lrp_keeps_the_relevance_of_a_normalisation(images):
    """Its scale is constant: a map sums to the logit where there is no bias."""
    net = Single(lambda x: functional.layer_norm(x, (64,)))
    with torch.no_grad():
        logits = net(images)[range(6), TARGETS].numpy()
    assert maps(net, images, "lrp").sum(axis=(1, 2)) == pytest.approx(logits, rel=1e-3)


def test_lrp_where_only_probabilities_are_known_is_unsupported(images):
    """Two softmaxes, the mean of which ends the model: no logit is left to hand back relevance from."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = plain()

        def forward(self, images):
            logits = self.net(images)
            return (logits.softmax(1) + (2 * logits).softmax(1)) / 2

    with pytest.raises(UnsupportedModelError, match="no gradient leads back"):
        explain(Two(), images, TARGETS, "lrp")


def test_lrp_does_not_depend_on_a_scale_that_a_normalisation_undoes(images):
    first, scaled = plain(), plain()
    with torch.no_grad():
        for each in (scaled.conv1.weight, scaled.conv1.bias, scaled.norm.running_mean):
            each.mul_(1000)
        scaled.norm.running_var.mul_(1e6)
        scaled.norm.eps *= 1e6
    assert_close(maps(scaled, images, "lrp"), maps(first, images, "lrp"), 1e-4)


class Squares(nn.Module):
    """Products of two signals only: integrated gradients of a square are exact with two steps."""

    def __init__(self, product):
        super().__init__()
        torch.manual_seed(2)
        self.left, self.right, self.product = nn.Conv2d(3, 5, 5, stride=4), nn.Conv2d(3, 5, 5, stride=4), product

    def forward(self, images):
        return self.product(self.left(images), self.right(images)).mean(dim=(2, 3))


PRODUCTS = {
    "mul": lambda a, b: a * b,
    "in place": lambda a, b: a.mul_(b),
    "broadcast": lambda a, b: a * b.mean(dim=(2, 3), keepdim=True),
    "matmul": lambda a, b: a @ b,
    "bmm": lambda a, b: torch.bmm(a.flatten(0, 1), b.flatten(0, 1)).view_as(a),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_deeplift_of_a_product_is_integrated_gradients(images, baselines, name):
    net = Squares(PRODUCTS[name])
    expected = IntegratedGradients(net).attribute(images, baselines, target=TARGETS, n_steps=3).sum(dim=1)
    assert_close(maps(net, images, "deeplift"), expected)


MIXED = {
    "layer_norm": lambda x: functional.layer_norm(x, (64,), torch.linspace(0, 2, 64), torch.ones(64)),
    "group_norm": lambda x: functional.group_norm(x, 1, torch.tensor([1.0, 2.0, 3.0]), torch.ones(3)),
    "softmax": lambda x: functional.softmax(x, dim=-1),
    "softmax of large numbers": lambda x: torch.softmax(300 * x, dim=2),
    "softmax with a mask": lambda x: x.masked_fill(torch.eye(64, dtype=torch.bool), float("-inf")).softmax(-1),
    "attention": lambda x: functional.scaled_dot_product_attention(x, x.flip(-1), x.flip(-2)),
    "masked attention": lambda x: functional.scaled_dot_product_attention(
        x, x.flip(-1), x, attn_mask=torch.eye(64, dtype=torch.bool)
    ),
    "biased attention": lambda x: functional.scaled_dot_product_attention(x, x, x, attn_mask=torch.eye(64), scale=0.5),
    "causal attention": lambda x: functional.scaled_dot_product_attention(x, x.flip(-1), x, is_causal=True),
    "glu": lambda x: functional.glu(torch.cat([x, x.flip(-1)], dim=1), dim=1),
    "normalize": lambda x: functional.normalize(x, dim=-1) * 10,
    "norm": lambda x: x / (x.norm(p=2, dim=(-1, -2), keepdim=True) + 1),
    "vector_norm": lambda x: x * torch.linalg.vector_norm(x, dim=1, keepdim=True),
    "max_pool2d": lambda x: functional.max_pool2d(x, 3, stride=1, padding=1),
    "max_pool2d in an archive": lambda x: torch.ops.aten.max_pool2d.default(x, [3, 3], [1, 1], [1, 1]),
}


@pytest.mark.parametrize("name", MIXED)
def test_deeplift_is_complete(images, baselines, name):
    net = Single(MIXED[name])
    found = explain(net, images, TARGETS, "deeplift")
    with torch.no_grad():
        change = (net(images) - net(baselines))[range(6), TARGETS].double().numpy()
    assert np.isfinite(found.values).all()
    largest = float(np.abs(found.values).max())
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(change, abs=1e-3 * max(1, largest))
    assert len({each.tobytes() for each in found.values}) == len(images)


@pytest.mark.parametrize("name", ["layer_norm", "group_norm", "softmax", "attention", "masked attention", "glu"])
def test_parts_make_the_whole(images, name):
    """Taken apart, an operation gives the same logits: then its LRP and DeepLIFT are of the same model."""
    found = explain(Single(MIXED[name]), images, TARGETS, "deeplift")
    with torch.no_grad():
        net = Single(MIXED[name])
        change = (net(images) - net(torch.stack([baseline_of(image, "blur") for image in images])))[range(6), TARGETS]
    missing = found.values.sum(axis=(1, 2), dtype=np.float64) - change.double().numpy()
    assert found.diagnostics["completeness_residual"] == pytest.approx(missing, abs=2e-3)


@pytest.mark.parametrize("batch_first", [True, False])
def test_deeplift_through_torchs_own_transformer_layer(images, baselines, batch_first):
    """Tokens may come before images. Without gradients the layer would take a shortcut that no rule could see."""
    torch.manual_seed(3)
    layer = nn.TransformerEncoderLayer(64, 4, 32, batch_first=batch_first).eval()
    order = (0, 0) if batch_first else (0, 1)
    net = Single(lambda x: layer(x.mean(dim=1).transpose(*order)).transpose(*order)[:, None].expand(-1, 3, -1, -1))
    found = explain(net, images, TARGETS, "deeplift")
    with torch.no_grad():
        change = (net(images) - net(baselines))[range(6), TARGETS].double().numpy()
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(change, abs=1e-3)
    assert np.isfinite(maps(net, images, "lrp")).all()


def test_deeplift_where_nothing_changes_is_the_gradient(images):
    """Half of the image equals its baseline: there the multiplier has no change to divide."""
    images = images.clone()
    images[:, :, :32] = 0
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 64 * 64, 5)).eval()
    found = explain(net, images, TARGETS, "deeplift", baseline="zero")
    assert np.isfinite(found.values).all()
    assert (found.values[:, :32] == 0).all()
    lengths = maps(Single(MIXED["normalize"]), images, "deeplift", baseline="zero")
    assert np.isfinite(lengths).all(), "the length of nothing has no slope"
    assert np.abs(found.diagnostics["completeness_residual"]).max() < 1e-5


class Wavering(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 5)

    def forward(self, images):
        rough = images.diff(dim=-1).abs().mean() > 0.02
        return self.head(torch.relu(images).mean(dim=(2, 3)) if rough else torch.relu(images.mean(dim=(2, 3))))


def test_deeplift_of_a_model_that_takes_another_way_for_the_baseline(images):
    with pytest.raises(UnsupportedModelError, match="runs other operations for an image than for its baseline"):
        explain(Wavering(), images, TARGETS, "deeplift")


def test_rules_end_with_the_explanation(images):
    """Ordinary gradients afterwards are ordinary."""
    before = maps(plain(), images, "saliency")
    for method in METHODS:
        maps(plain(), images, method)
    assert maps(plain(), images, "saliency").tobytes() == before.tobytes()
    assert (torch.ones(2, requires_grad=True) * 2).relu().grad_fn.name() == "ReluBackward0"


def test_classes_of_the_archive_are_explained_by_their_logit(images):
    """Scaling the target's row of the head scales its map."""
    net, twice = plain(), plain()
    with torch.no_grad():
        twice.head.weight.mul_(2)
        twice.head.bias.mul_(2)
    for method in METHODS:
        found = maps_of(Classifier("twice", "1", twice), images, method)
        assert_close(found, 2 * maps(net, images, method), 1e-4)
