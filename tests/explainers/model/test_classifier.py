"""A model as explainers call it."""

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers.errors import ConfigError, ExplanationError, UnsupportedModelError
from attrail_explainers.explanation import explain
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.working_copy import MOST
from attrail_explainers.tasks.single_label import SingleLabel

BATCH = MOST["cpu"]  # what the small pictures are called in


class Shapes(nn.Module):
    """Keeps the shapes it was called with; three classes from the means of the channels."""

    shapes = []  # noqa: RUF012 - the class's own, so that copies add to it too

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        return images.mean(dim=(2, 3))


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


def names(count):
    return tuple(f"sample {row}" for row in range(count))


def digest(module):
    return Classifier("net", "1", module).weights_digest


@pytest.mark.parametrize(("count", "size"), [(1, None), (BATCH, None), (BATCH + 3, None), (5, 1), (5, 2)])
def test_batches_always_have_the_same_shape(pictures, count, size):
    classifier = Classifier("net", "1", Shapes(), batch_size=size)
    images = np.concatenate([pictures] * 6)[:count]
    classifier.working_copy(images)
    Shapes.shapes.clear()
    found = classifier.logits(images, names(count))
    assert found == pytest.approx(images.mean(axis=(2, 3)), abs=1e-6)
    assert set(Shapes.shapes) == {(size or BATCH, 3, 64, 64)}
    assert len(Shapes.shapes) == -(-count // (size or BATCH))


def test_broken_outputs_are_named(pictures):
    images = pictures.copy()
    images[2, 0, 0, 0] = np.nan
    images[4, 1, 5, 5] = np.inf
    with pytest.raises(ExplanationError, match=r"net/1.*'sample 2' \(2 of 6 images\)"):
        Classifier("net", "1", Shapes()).logits(images, names(6))


def test_logits_leave_the_images_alone(small_net, pictures):
    images = np.concatenate([pictures] * 6)[:BATCH]
    before = images.copy()
    first = Classifier("net", "1", small_net()).logits(images, names(BATCH))
    assert images.tobytes() == before.tobytes()
    assert (first == Classifier("net", "1", small_net()).logits(images, names(BATCH))).all()


def test_every_single_weight_is_in_the_digest(small_net):
    seen = {digest(small_net()), digest(small_net())}
    assert len(seen) == 1
    names = list(small_net().state_dict())
    for name in names:
        changed = small_net()
        with torch.no_grad():
            flat = changed.state_dict()[name].view(-1)
            flat[-1] = flat[-1] + 1
        seen.add(digest(changed))
    assert len(seen) == 1 + len(names)


def test_one_bit_is_in_the_digest(small_net):
    changed = small_net()
    with torch.no_grad():
        changed.head.weight[0, 0] = torch.nextafter(changed.head.weight[0, 0], torch.tensor(torch.inf))
    assert digest(changed) != digest(small_net())


def test_names_shapes_and_dtypes_are_in_the_digest():
    def module(name, values):
        made = nn.Module()
        made.register_buffer(name, values)
        return made

    zeros = [torch.zeros(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32), torch.zeros(2, dtype=torch.float64)]
    kinds = [module("a", each) for each in [*zeros, torch.zeros(1), torch.tensor(0.0)]]
    kinds.append(module("b", torch.zeros(4)))
    assert len({digest(each) for each in kinds}) == len(kinds)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_short_floats_have_a_digest(dtype):
    def module(last):
        made = nn.Module()
        made.register_buffer("weight", torch.tensor([[1.0, 2.0], [3.0, last]]).to(dtype))
        made.register_buffer("scale", torch.tensor(last).to(dtype))
        return made

    assert digest(module(4.0)) == digest(module(4.0))
    assert digest(module(4.0)) != digest(module(5.0))
    assert digest(module(4.0)) != digest(module(4.0).float())


class Extra(Shapes):
    """Keeps more than tensors in its state."""

    def __init__(self, extra):
        super().__init__()
        self.extra = extra

    def get_extra_state(self):
        return self.extra


def test_extra_state_is_in_the_digest():
    kinds = [{"step": 3}, {"step": 4}, {"step": 3.0}, {"at": 3}, [1, 2], [[1], 2], (), None, "3", b"3"]
    kinds += [torch.float32, torch.ones(2), np.ones(2), {"mean": [torch.ones(2)]}, {"mean": [torch.zeros(2)]}]
    found = [digest(Extra(each)) for each in kinds]
    assert len(set(found)) == len(kinds)
    assert found == [digest(Extra(each)) for each in kinds]
    assert digest(Extra({"a": 1, "b": 2})) == digest(Extra({"b": 2, "a": 1}))


def test_a_state_that_cannot_be_read_is_refused(pictures):
    with pytest.raises(UnsupportedModelError, match=r"model Extra: _extra_state\['what'\] in its state holds object"):
        explain(Extra({"what": object()}), pictures, [0] * 6, "occlusion")
    with pytest.raises(UnsupportedModelError, match="bias has no values"):
        digest(nn.Linear(2, 2, device="meta"))


def test_quantized_modules_are_explained(pictures):
    def module(last):
        torch.manual_seed(0)
        linear = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)).eval()
        with torch.no_grad():
            linear[2].weight[0, 0] = last
        stubs = (torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub())
        whole = nn.Sequential(stubs[0], *linear, stubs[1])
        whole.qconfig = torch.ao.quantization.get_default_qconfig("x86")
        prepared = torch.ao.quantization.prepare(whole)
        prepared(torch.from_numpy(pictures))
        return torch.ao.quantization.convert(prepared)

    assert any(not isinstance(each, torch.Tensor) for each in module(0.1).state_dict().values())
    found = explain(module(0.1), pictures, [0] * 6, "occlusion")
    assert found.weights_digest == digest(module(0.1))
    assert found.weights_digest != digest(module(0.3))


def test_sparse_and_quantized_tensors_are_in_the_digest():
    def module(values):
        made = nn.Module()
        made.register_buffer("weight", values)
        return made

    dense = torch.tensor([[0.0, 2.0], [3.0, 0.0]])
    scales, zeros = torch.tensor([0.5, 0.25]), torch.zeros(2, dtype=torch.int64)
    kinds = [dense.to_sparse(), (2 * dense).to_sparse()]
    kinds += [torch.quantize_per_tensor(dense, scale, 0, torch.qint8) for scale in (0.5, 0.25)]
    kinds += [torch.quantize_per_channel(dense, scales, zeros, axis, torch.qint8) for axis in (0, 1)]
    assert len({digest(module(each)) for each in kinds}) == len(kinds)


def test_bfloat16_outputs_become_floats(pictures):
    class Short(Shapes):
        def forward(self, images):
            return super().forward(images).bfloat16()

    found = Classifier("net", "1", Short()).logits(pictures, names(6))
    assert found.dtype == np.float32
    assert found == pytest.approx(pictures.mean(axis=(2, 3)), rel=1e-2, abs=1e-2)


@pytest.mark.parametrize(
    ("forward", "got"),
    [
        (lambda images: images, r"\(2, 3, 64, 64\)"),
        (lambda images: images.mean(), r"\(\)"),
        (lambda images: (images,), r"'0' \(2, 3, 64, 64\)"),
        (lambda images: images[:1].mean(dim=(2, 3)), r"\(1, 3\)"),
        (lambda images: images.mean(dim=3).flatten(0, 1), r"\(6, 64\)"),
    ],
)
def test_wrong_outputs_are_described(pictures, forward, got):
    with pytest.raises(UnsupportedModelError, match=rf"net/1: expected logits \(N,classes\) for 2 images, got {got}"):
        Classifier("net", "1", Function(forward)).logits(pictures, names(6))


def test_wrong_images_are_described(small_net, pictures):
    with pytest.raises(
        UnsupportedModelError, match=r"net/1 cannot take images of shape \(2, 1, 64, 64\).*\[preprocessing\]"
    ):
        Classifier("net", "1", small_net()).logits(pictures[:, :1], names(6))


@pytest.mark.parametrize("target", [-1, 3])
def test_unknown_classes_are_named(pictures, target):
    classifier = Classifier("net", "1", Shapes())
    classifier.require(SingleLabel.of([0, 1, 2]), pictures)
    with pytest.raises(ConfigError, match=f"class {target} .*net/1 has 3 classes"):
        classifier.require(SingleLabel.of([0, target, 1]), pictures)


def test_forced_layer():
    classifier = Classifier("net", "1", nn.Identity(), target_layer="a")
    assert classifier.with_target_layer(None) is classifier
    assert classifier.with_target_layer("b").target_layer == "b"
    assert classifier.label == "net/1"
    assert Classifier("net", "", nn.Identity()).label == "net"


@pytest.mark.parametrize("script", [torch.jit.script, lambda net: torch.jit.trace(net, torch.zeros(1, 3, 64, 64))])
@pytest.mark.parametrize("name", ["gradcam", "shap"])
def test_scripted_modules_are_refused_in_one_sentence(script, name, pictures):
    net = nn.Sequential(nn.Conv2d(3, 4, 8, stride=8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    for module in (script(net), nn.Sequential(script(net))):
        with pytest.raises(UnsupportedModelError, match=r"is or holds a scripted module .*: give the module that was"):
            explain(module, pictures, [0] * 6, name)
