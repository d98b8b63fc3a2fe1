"""Grad-CAM against captum and against its closed form, on ordinary modules and on torch.export archives."""

import numpy as np
import pytest
import timm
import torch
import torchvision
from captum.attr import LayerGradCam
from torch import nn

from attrail_explainers.errors import ExplanationError, UnsupportedModelError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain, explain_slice
from attrail_explainers.layers.target_layer import target_layer
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export, classifier_from_module
from attrail_explainers.slice import Slice

TOLERANCE = 1e-5  # of the largest value
MAKERS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=10),
    "mobilenet": lambda: torchvision.models.mobilenet_v3_small(num_classes=10),
    "test_efficientnet": lambda: timm.create_model("test_efficientnet", num_classes=10),
    "test_resnet": lambda: timm.create_model("test_resnet", num_classes=10),
}


@pytest.fixture(params=MAKERS)
def net(request):
    torch.manual_seed(0)
    return MAKERS[request.param]().eval()


@pytest.fixture
def top(pictures):
    """A model's own top class of each picture: the one that has positive evidence."""
    return lambda net: net.eval()(torch.from_numpy(pictures.copy())).argmax(dim=1)


class PooledSum(nn.Module):
    """conv -> mean over places -> linear: Grad-CAM has the closed form of a class activation map."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 8, stride=8)
        self.head = nn.Linear(4, 3)

    def forward(self, images):
        return self.head(self.conv(images).mean(dim=(2, 3)))


class Twice(PooledSum):
    def forward(self, images):
        return self.head((self.conv(images) - self.conv(-images)).mean(dim=(2, 3)))


def assert_close(found, expected):
    """Equal maps; a map is undefined (NaN) exactly where the other library's is zero everywhere."""
    found, expected = np.asarray(found), np.nan_to_num(expected)
    assert (np.isnan(found).any(axis=(1, 2)) == (expected.max(axis=(1, 2)) <= 0)).all()
    found, largest = np.nan_to_num(found), np.abs(expected).max()
    assert largest > 0
    assert np.abs(found - expected).max() <= TOLERANCE * largest


def exported(net, pictures, path, batch=None):
    """The net's archive; ``batch`` None exports a batch of any size."""
    example = torch.from_numpy(pictures[: batch or 2].copy())
    shapes = None if batch else ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(net.eval(), (example,), dynamic_shapes=shapes), path)
    return path


def maps_of(classifier, pictures, targets):
    ids = tuple(str(row) for row in range(len(pictures)))
    labels = np.asarray(targets)
    return explain_slice(classifier, Slice("s", pictures, labels, ids), [make_explainer("gradcam")], labels, seed=0)[0]


def test_equals_captum(net, pictures, top):
    targets = top(net)
    found = explain(net, pictures, targets)
    layer = net.get_submodule(found.parameters["layer"])
    images = torch.from_numpy(pictures.copy())
    expected = LayerGradCam(net, layer).attribute(images, targets, relu_attributions=True)
    assert_close(found.values, expected.detach().numpy()[:, 0])


def test_found_layer_feeds_the_global_pooling(net, pictures):
    """In all these nets the last grid is what the model's own feature extractor gives before it pools."""
    found = target_layer(Classifier("net", "1", net).working_copy(pictures), torch.from_numpy(pictures))
    kept = []
    net.get_submodule(found.name).register_forward_hook(lambda module, arguments, output: kept.append(output))
    pooled = []
    pooling = [each for each in net.modules() if "Pool" in type(each).__name__ and "Adaptive" in type(each).__name__]
    pooling[-1].register_forward_pre_hook(lambda module, arguments: pooled.append(arguments[0]))
    with torch.no_grad():
        net(torch.from_numpy(pictures[:2].copy()))
    assert torch.equal(kept[-1], pooled[-1])


def test_equals_the_class_activation_map(pictures):
    torch.manual_seed(1)
    net = PooledSum()
    targets = [0, 1, 2, 0, 1, 2]
    found = explain(net, pictures, targets)
    activations = net.conv(torch.from_numpy(pictures)).detach().numpy()
    weights = net.head.weight.detach().numpy()[targets] / activations[0, 0].size
    expected = np.maximum(np.einsum("nc,nchw->nhw", weights, activations), 0)
    assert_close(found.values, expected)


@pytest.mark.parametrize("maker", ["resnet18", "test_efficientnet", "test_resnet"])
def test_export_equals_module(maker, pictures, top, tmp_path):
    torch.manual_seed(0)
    net = MAKERS[maker]()
    archive = exported(net, pictures, tmp_path / "net.pt2")
    eager, loaded = classifier_from_module(net, "net", "1"), classifier_from_export(archive, "net", "1")
    first, second = maps_of(eager, pictures, top(net)), maps_of(loaded, pictures, top(net))
    assert_close(second.values, first.values)
    assert first.weights_digest == second.weights_digest
    assert first.comparability == second.comparability
    assert loaded.logits(pictures, first.sample_ids) == pytest.approx(
        eager.logits(pictures, first.sample_ids), rel=1e-5, abs=1e-5
    )


def test_export_with_batch_size_one(small_net, pictures, tmp_path):
    net = small_net()
    loaded = classifier_from_export(exported(net, pictures, tmp_path / "net.pt2", batch=1), "net", "1")
    assert loaded.batch_size == 1
    targets = [0, 1, 2, 3, 4, 0]
    eager = Classifier("net", "1", net)
    assert_close(maps_of(loaded, pictures, targets).values, maps_of(eager, pictures, targets).values)


def test_export_with_two_inputs_is_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, images, others):
            return (images + others).mean(dim=(2, 3))

    example = (torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))
    torch.export.save(torch.export.export(Two(), example), tmp_path / "two.pt2")
    with pytest.raises(UnsupportedModelError, match="one image input"):
        classifier_from_export(tmp_path / "two.pt2", "two", "1")


@pytest.mark.parametrize(
    "thing", [torch.jit.script(nn.ReLU()), torch.fx.symbolic_trace(nn.ReLU()), lambda images: images]
)
def test_only_ordinary_modules_are_taken(thing):
    with pytest.raises(UnsupportedModelError, match=r"log the model in MLflow's default pt2 format"):
        classifier_from_module(thing, "net", "1")


def test_model_without_places_is_unsupported(pictures):
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 8), nn.ReLU(), nn.Linear(8, 3))
    with pytest.raises(UnsupportedModelError, match=r"no layer with activations on a grid.*shap or lime"):
        explain(net, pictures, [0] * 6)


class ChannelsLast(PooledSum):
    """A grid, then the same places with the channels in the last dimension, as many transformers end."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)

    def forward(self, images):
        return self.head(self.norm(self.conv(images).permute(0, 2, 3, 1)).mean(dim=(1, 2)))


def test_tokens_and_channels_last_become_a_grid(pictures, top):
    """The same network, its places kept in three forms: the same maps."""
    torch.manual_seed(3)
    net = ChannelsLast()
    targets = top(net)
    activations = net.norm(net.conv(torch.from_numpy(pictures)).permute(0, 2, 3, 1)).detach().numpy()
    weights = net.head.weight.detach().numpy()[targets] / 64
    found = explain(net, pictures, targets)
    assert found.parameters["layer"] == "norm"
    assert_close(found.values, np.maximum(np.einsum("nc,nhwc->nhw", weights, activations), 0))
    tokens = Tokens(net)
    assert_close(explain(tokens, pictures, targets).values, found.values)


class Tokens(nn.Module):
    """The places of another net as tokens, after two that have no place and are not read."""

    def __init__(self, net):
        super().__init__()
        self.conv, self.norm, self.head = net.conv, net.norm, net.head

    def forward(self, images):
        tokens = self.conv(images).flatten(2).transpose(1, 2)
        return self.head(self.norm(torch.cat([tokens[:, :2] + 1, tokens], dim=1))[:, 2:].mean(dim=1))


def test_images_need_not_be_square(pictures):
    torch.manual_seed(3)
    wide = pictures[:, :, 8:56]
    assert explain(torchvision.models.resnet18(num_classes=3), wide, [0, 1, 2] * 2).parameters["layer"] == "layer4"


def test_layer_that_runs_twice_is_unsupported(pictures):
    with pytest.raises(UnsupportedModelError, match=r"'conv'.*ran 2 times"):
        explain(Twice(), pictures, [0] * 6)


@pytest.mark.parametrize("layer", ["features.1", "features.2", "features.4"])
def test_layer_can_be_chosen(small_net, pictures, layer):
    """Also one whose activations the next, in-place layer overwrites; captum gets a net without in-place layers."""
    net, targets = small_net(), torch.tensor([0, 1, 2, 3, 4, 0])
    found = explain(net, pictures, targets, layer=layer)
    assert found.parameters["layer"] == layer
    for module in net.eval().modules():
        if hasattr(module, "inplace"):
            module.inplace = False
    images = torch.from_numpy(pictures.copy())
    expected = LayerGradCam(net, net.get_submodule(layer)).attribute(images, targets, relu_attributions=True)
    assert_close(found.values, expected.detach().numpy()[:, 0])


def test_unknown_layer_is_named(small_net, pictures):
    with pytest.raises(UnsupportedModelError, match=r"no layer 'features\.99'"):
        explain(small_net(), pictures, [0] * 6, layer="features.99")


def test_layer_without_places_is_named(small_net, pictures):
    with pytest.raises(UnsupportedModelError, match="layer 'head'"):
        explain(small_net(), pictures, [0] * 6, layer="head")


def test_no_positive_evidence_is_undefined(pictures):
    """Relu activations and one row of negative weights: the map of that class is zero everywhere."""
    torch.manual_seed(2)
    net = PooledSum()
    net.conv = nn.Sequential(net.conv, nn.ReLU())
    with torch.no_grad():
        net.head.weight[0] = 1
        net.head.weight[1] = -1
    found = explain(net, pictures, [0, 1, 0, 1, 0, 0])
    assert dict(found.undefined) == dict.fromkeys(["1", "3"], "no positive evidence for the target")
    assert np.isnan(found.values[[1, 3]]).all()
    many = explain(net, np.concatenate([pictures] * 6), [0, 1, *[0] * 31, 1, 0, 0])
    assert set(many.undefined) == {"1", "33"}, "33 is in the second batch"
    with pytest.raises(ExplanationError, match="no positive evidence"):
        explain(net, pictures, [1] * 6)


def test_relevance_is_not_rescaled(pictures, top):
    """A model whose evidence halves must have maps half as large."""
    torch.manual_seed(1)
    net = PooledSum()
    targets = top(net)
    before = explain(net, pictures, targets).values
    with torch.no_grad():
        net.head.weight.mul_(0.5)
    assert_close(explain(net, pictures, targets).values, before / 2)


def test_a_quantized_model_is_told_what_to_do(pictures):
    class Quantized(torch.nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
            self.body, self.head = torch.nn.Conv2d(3, 8, 3), torch.nn.Linear(8, 3)
            self.pool = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())

        def forward(self, images):
            return self.last(self.head(self.pool(self.body(self.first(images)))))

    net = Quantized().eval()
    net.qconfig = torch.ao.quantization.get_default_qconfig("x86")
    prepared = torch.ao.quantization.prepare(net)
    prepared(torch.from_numpy(pictures))
    quantized = torch.ao.quantization.convert(prepared)
    with pytest.raises(UnsupportedModelError, match=r"is quantized: .*no gradients; explain .*use shap, lime or occl"):
        explain(quantized, pictures, [0, 1, 2, 0, 1, 2], "gradcam")
    assert explain(quantized, pictures, [0, 1, 2, 0, 1, 2], "occlusion", window=0.5, stride=0.5).values.shape[0] == 6
