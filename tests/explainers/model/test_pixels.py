"""Models that normalise inside and take uint8: the same pixels, masks and gradients as of the module without it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.model.onnx_graph import classifier_from_onnx
from attrail_explainers.model.pixels import Pixels
from attrail_explainers.slice import Preprocessing, Slice

SIDE = 16
USUAL = Preprocessing((SIDE, SIDE), (0.5, 0.4, 0.3), (0.25, 0.3, 0.35))
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 3, SIDE, SIDE), np.uint8)
IMAGES = ((PIXELS / 255 - np.reshape(USUAL.mean, (3, 1, 1))) / np.reshape(USUAL.std, (3, 1, 1))).astype(np.float32)
SLICE = Slice("noise", IMAGES, np.arange(4), tuple("abcd"), USUAL)
EXAMPLE = torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8)
LEVEL = 0.01  # of a map's largest value: masked and blurred pixels are rounded to the nearest of 256 levels


def convolving() -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)).eval()


class Normalising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = convolving()
        self.mean, self.std = (torch.tensor(each)[:, None, None] for each in (USUAL.mean, USUAL.std))

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.inner((pixels.to(torch.float32) / 255 - self.mean) / self.std)


class Coarse(nn.Module):
    """Arithmetic of whole numbers, which begins anew beyond 255 as no floating-point number does."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = convolving()

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.inner((pixels * 3).to(torch.float32) / 255)


def as_pt2(module: nn.Module, folder: Path) -> Classifier:
    program = torch.export.export(module.eval(), (EXAMPLE,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, folder / "model.pt2")
    return classifier_from_export(folder / "model.pt2", "net", "uint8")


def as_onnx(module: nn.Module, folder: Path) -> Classifier:
    free = {"input": {0: "batch"}}
    path = folder / "model.onnx"
    torch.onnx.export(module.eval(), (EXAMPLE,), path, dynamo=False, input_names=["input"], dynamic_axes=free)
    return classifier_from_onnx(path, "net", "uint8")


def maps(classifier: Classifier, name: str) -> NDArray[np.float32]:
    return explain_slice(classifier, SLICE, [make_explainer(name, {})], SLICE.labels, seed=0)[0].values


@pytest.mark.parametrize("written", [as_pt2, as_onnx])
def test_maps_are_those_of_the_model_without_the_normalisation(
    written: Callable[[nn.Module, Path], Classifier], tmp_path: Path
) -> None:
    found, own = written(Normalising(), tmp_path), Classifier("net", "float", convolving())
    assert found.takes == "uint8"
    fed = found.for_images(USUAL)
    expected = own.logits(IMAGES, SLICE.sample_ids)
    assert fed.logits(IMAGES, SLICE.sample_ids) == pytest.approx(expected, abs=1e-5)
    between = (IMAGES + 0.4 / 255 / np.reshape(USUAL.std, (3, 1, 1))).astype(np.float32)
    assert np.array_equal(fed.logits(between, SLICE.sample_ids), fed.logits(IMAGES, SLICE.sample_ids))
    for name in ("gradcam", "saliency", "integrated_gradients", "deeplift"):
        assert np.abs(maps(found, name) - maps(own, name)).max() <= 1e-5 * np.abs(maps(own, name)).max(), name
    for name in ("shap", "occlusion"):
        assert np.abs(maps(found, name) - maps(own, name)).max() <= LEVEL * np.abs(maps(own, name)).max(), name


def test_without_a_preprocessing_images_are_pixels(tmp_path: Path) -> None:
    found = as_pt2(Normalising(), tmp_path)
    with torch.no_grad():
        expected = Normalising().eval()(torch.from_numpy(PIXELS)).numpy()
    assert found.logits(PIXELS.astype(np.float32), tuple("abcd")) == pytest.approx(expected, abs=1e-6)


def test_where_nothing_lies_between_whole_numbers_there_is_no_gradient(tmp_path: Path) -> None:
    found = as_pt2(Coarse(), tmp_path)
    for name in ("shap", "gradcam"):  # the one only calls the model, the other begins at a layer
        assert np.isfinite(maps(found, name)).any()
    with pytest.raises(
        UnsupportedModelError, match=r"model net/uint8 takes whole numbers \(uint8\), .*; use shap"
    ) as told:
        maps(found, "saliency")
    assert "\n" not in str(told.value)


def test_a_signature_says_it_where_files_do_not_and_must_not_deny_them(tmp_path: Path) -> None:
    module = Classifier("net", "1", Normalising().eval())
    expected = Classifier("net", "float", convolving()).logits(IMAGES, SLICE.sample_ids)
    told = module.declared("uint8").for_images(USUAL)
    assert told.logits(IMAGES, SLICE.sample_ids) == pytest.approx(expected, abs=1e-5)
    assert module.declared(None).pixels is None
    with pytest.raises(UnsupportedModelError, match="logged for float32 images, and its files say that it takes uint8"):
        as_pt2(Normalising(), tmp_path).declared("float32")


def test_pixels_come_back_exactly() -> None:
    whole = Pixels.of(USUAL).whole(torch.from_numpy(IMAGES)).numpy()
    assert np.array_equal(whole, PIXELS)
    assert Pixels.of(USUAL).whole(torch.tensor([[[[-9.0]], [[9.0]], [[0.0]]]])).flatten().tolist() == [0, 255, 76]
