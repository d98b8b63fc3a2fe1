"""ONNX graphs: answered by onnxruntime, explained through torch, and both are the model that was exported."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from torch import nn

from attrail_explainers import make_task
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.onnx_graph import OnnxNetwork, OnnxSession, classifier_from_onnx
from attrail_explainers.slice import Slice

IMAGES = np.random.default_rng(0).normal(size=(4, 3, 16, 16)).astype(np.float32)
SLICE = Slice("noise", IMAGES, np.arange(4), tuple("abcd"))


class Attending(nn.Module):
    """4x4 tokens and a class token through one block of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, 8))
        self.block = nn.TransformerEncoderLayer(8, 2, 16, 0.0, "gelu", batch_first=True, norm_first=True)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 4)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(images.shape[0], -1, -1), tokens], dim=1)
        logits: torch.Tensor = self.head(self.norm(self.block(tokens))[:, 0])
        return logits


class ChannelsLast(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(images.permute(0, 3, 1, 2))
        return logits


def convolving(*more: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4), *more).eval()


def exported(module: nn.Module, path: Path, shape: tuple[int, ...] = (2, 3, 16, 16), *, dynamo: bool = False) -> Path:
    if dynamo:
        program = torch.onnx.export(
            module, (torch.zeros(shape),), dynamo=True, dynamic_shapes=({0: torch.export.Dim("batch")},), verbose=False
        )
        assert program is not None
        program.save(path)
    else:
        free = {"input": {0: "batch"}}
        torch.onnx.export(module, (torch.zeros(shape),), path, dynamo=False, input_names=["input"], dynamic_axes=free)
    return path


def maps(classifier: Classifier, name: str) -> NDArray[np.float32]:
    return explain_slice(classifier, SLICE, [make_explainer(name, {})], SLICE.labels, seed=0)[0].values


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Callable[[onnx.ModelProto], object]], Path]:
    """The convolving network's file after a change."""

    def change(how: Callable[[onnx.ModelProto], object]) -> Path:
        model = onnx.load(exported(convolving(), tmp_path / "plain.onnx"))
        how(model)
        onnx.save(model, tmp_path / "changed.onnx")
        return tmp_path / "changed.onnx"

    return change


@pytest.mark.parametrize(
    ("build", "dynamo"), [(convolving, False), (Attending, False), (Attending, True)], ids=["cnn", "vit", "dynamo"]
)
def test_maps_are_those_of_the_module_that_was_exported(
    build: Callable[[], nn.Module], dynamo: bool, tmp_path: Path
) -> None:
    module = build().eval()
    found = classifier_from_onnx(exported(module, tmp_path / "m.onnx", dynamo=dynamo), "net", "1")
    own = Classifier("net", "torch", module)
    assert isinstance(found.graph, OnnxSession)
    assert isinstance(found.module, OnnxNetwork)
    assert found.logits(IMAGES, SLICE.sample_ids) == pytest.approx(own.logits(IMAGES, SLICE.sample_ids), abs=1e-5)
    attention = ["attention_rollout"] if build is Attending else []
    for name in ("gradcam", "shap", "integrated_gradients", "deeplift", *attention):
        expected = maps(own, name)
        assert np.abs(maps(found, name) - expected).max() <= 1e-3 * np.abs(expected).max(), name


def test_a_segmenters_classes_come_first_where_its_channels_come_last(tmp_path: Path) -> None:
    class Last(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.inner(images.permute(0, 3, 1, 2))
            return found.permute(0, 2, 3, 1)

    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 5, 1)).eval()
    path = exported(Last(inner), tmp_path / "m.onnx", (2, 16, 16, 3))
    found = classifier_from_onnx(path, "net", "1").for_task(make_task("segmentation"))
    with torch.no_grad():
        expected = inner(torch.from_numpy(IMAGES)).numpy()
    assert found.logits(IMAGES, SLICE.sample_ids) == pytest.approx(expected, abs=1e-5)


def test_a_softmax_at_the_end_is_undone_as_it_is_of_a_module(tmp_path: Path) -> None:
    module = convolving(nn.Softmax(dim=1))
    found = classifier_from_onnx(exported(module, tmp_path / "m.onnx"), "net", "1")
    own = Classifier("net", "torch", module)
    assert found.logits(IMAGES, SLICE.sample_ids) == pytest.approx(own.logits(IMAGES, SLICE.sample_ids), abs=1e-5)
    for name in ("gradcam", "occlusion"):
        assert maps(found, name) == pytest.approx(maps(own, name), abs=1e-5)


def test_channels_may_come_last(tmp_path: Path) -> None:
    inner = convolving()
    found = classifier_from_onnx(exported(ChannelsLast(inner), tmp_path / "m.onnx", (2, 16, 16, 3)), "net", "1")
    own = Classifier("net", "torch", inner)
    assert found.logits(IMAGES, SLICE.sample_ids) == pytest.approx(own.logits(IMAGES, SLICE.sample_ids), abs=1e-5)
    assert maps(found, "gradcam") == pytest.approx(maps(own, "gradcam"), abs=1e-5)


def test_a_batch_that_is_fixed_is_kept_to(tmp_path: Path) -> None:
    torch.onnx.export(convolving(), (torch.zeros(2, 3, 16, 16),), tmp_path / "m.onnx", dynamo=False)
    found = classifier_from_onnx(tmp_path / "m.onnx", "net", "1")
    assert found.batch_size == 2
    expected = Classifier("net", "torch", convolving()).logits(IMAGES[:3], tuple("abc"))
    assert found.logits(IMAGES[:3], tuple("abc")) == pytest.approx(expected, abs=1e-5)


class OfTwo(nn.Module):
    """Two images at a time, whatever its export says."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = convolving()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.inner(images) + torch.arange(2)[:, None]
        return logits


def test_a_batch_that_is_not_as_free_as_the_graph_says_is_said(tmp_path: Path) -> None:
    found = classifier_from_onnx(exported(OfTwo(), tmp_path / "m.onnx"), "net", "1")
    with pytest.raises(
        UnsupportedModelError, match=r"expected logits \(N,classes\) for 1 images, got \(2, 4\)"
    ) as error:
        found.logits(IMAGES, SLICE.sample_ids)
    assert "\n" not in str(error.value)


class Calibration(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self.left = iter([{"input": IMAGES}])

    def get_next(self) -> Any:
        return next(self.left, None)


@pytest.mark.parametrize("form", [QuantFormat.QDQ, QuantFormat.QOperator], ids=str)
def test_a_quantized_graph_can_only_be_called(
    form: QuantFormat, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    exported(convolving(), tmp_path / "m.onnx")
    quantize_static(tmp_path / "m.onnx", tmp_path / "q.onnx", Calibration(), quant_format=form)
    with caplog.at_level(logging.WARNING):
        found = classifier_from_onnx(tmp_path / "q.onnx", "net", "1")
    assert "model net/1 has no gradients and no layers, only explainers that call the model apply to it" in caplog.text
    own = Classifier("net", "torch", convolving())
    assert found.logits(IMAGES, SLICE.sample_ids) == pytest.approx(own.logits(IMAGES, SLICE.sample_ids), abs=0.02)
    agreement = np.corrcoef(maps(found, "occlusion").ravel(), maps(own, "occlusion").ravel())[0, 1]
    assert agreement > 0.9
    for name in ("gradcam", "integrated_gradients", "lrp"):
        with pytest.raises(UnsupportedModelError, match="use shap"):
            maps(found, name)


def quick_gelu(model: onnx.ModelProto) -> None:
    """An operator that onnxruntime brings itself and torch has none for."""
    node = next(each for each in model.graph.node if each.op_type == "Relu")
    node.op_type, node.domain = "QuickGelu", "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


def test_an_operator_that_torch_lacks_leaves_the_explainers_that_call(
    changed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = classifier_from_onnx(changed(quick_gelu), "net", "1")
    assert "QuickGelu" in caplog.text
    assert np.isfinite(maps(found, "shap")).all()


def test_names_may_be_anything(changed: Callable[..., Path]) -> None:
    """Names become attributes and lines of code in a converter: none of them reaches it."""
    odd = '"); forward = print #\n{0}'

    def rename(model: onnx.ModelProto) -> None:
        first = model.graph.node[0]
        for tensor in model.graph.initializer:
            if tensor.name == first.input[1]:
                tensor.name = odd
        first.input[1] = odd
        first.name = odd

    found = classifier_from_onnx(changed(rename), "net", "1")
    assert isinstance(found.module, OnnxNetwork)
    own = Classifier("net", "torch", convolving())
    assert found.logits(IMAGES, SLICE.sample_ids) == pytest.approx(own.logits(IMAGES, SLICE.sample_ids), abs=1e-5)


def test_digests_tell_weights_from_the_program(changed: Callable[..., Path], tmp_path: Path) -> None:
    def other_weights(model: onnx.ModelProto) -> None:
        tensor = next(each for each in model.graph.initializer if len(each.dims) == 4)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, tensor.name))

    def other_words(model: onnx.ModelProto) -> None:
        model.doc_string, model.graph.node[0].doc_string = "somebody's", "words"

    def other_program(model: onnx.ModelProto) -> None:
        next(each for each in model.graph.node if each.op_type == "Relu").op_type = "Sigmoid"

    def identity(how: Callable[[onnx.ModelProto], object]) -> tuple[str, str | None]:
        return classifier_from_onnx(changed(how), "net", "1").identity

    weights, program = identity(lambda model: None)
    assert identity(other_words) == (weights, program)
    assert identity(other_weights)[0] != weights
    assert identity(other_weights)[1] == program
    assert identity(other_program)[0] == weights
    assert identity(other_program)[1] != program


def two_inputs(model: onnx.ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))


def text_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64


def own_operator(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "somebody.own"
    model.opset_import.append(helper.make_opsetid("somebody.own", 1))


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (two_inputs, r"expected one input of images .*, its graph takes .*more tensor\(float\)"),
        (text_input, "cannot be run by onnxruntime"),
        (own_operator, "needs operators that come with a library of its own: somebody.own.Conv"),
    ],
)
def test_what_is_no_model_of_images_is_refused(
    how: Callable[[onnx.ModelProto], object], told: str, changed: Callable[..., Path]
) -> None:
    with pytest.raises(UnsupportedModelError, match=told) as error:
        classifier_from_onnx(changed(how), "net", "1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x08\x07"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=r"model net/1: its file m.onnx cannot be read by onnx") as error:
        classifier_from_onnx(tmp_path / "m.onnx", "net", "1")
    assert "\n" not in str(error.value)
