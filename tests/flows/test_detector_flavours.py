"""Detectors as users of transformers and ONNX log them: boxes found by the reference, and explained."""

from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from skimage import data
from torch import nn
from torchvision.ops import nms
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    DetrImageProcessor,
    ResNetConfig,
    YolosConfig,
    YolosForObjectDetection,
    YolosImageProcessor,
)

from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice, questions_found
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import make_task
from attrail_explainers.slice import Slice
from attrail_mlflow.registry.registry import Registry

SIDE, CLASSES = 64, 3
TINY = {"num_labels": CLASSES, "num_queries": 8, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1}
TINY |= {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
BACKBONE = {"use_timm_backbone": False, "use_pretrained_backbone": False, "backbone": None}
VISION = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
FEW = {"evaluations": 40, "segments": 8}


class Grid(nn.Module):
    """Proposals (N,P,5+C) in pixels, one at each of 8 x 8 places; ``alone`` the boxes that are left of one image."""

    def __init__(self, *, alone: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 9, stride=8, padding=4), nn.ReLU(), nn.Conv2d(8, 1 + CLASSES, 3, padding=1)
        )
        centres = torch.arange(4.0, SIDE, 8)
        places = torch.cartesian_prod(centres, centres).flip(1)
        self.register_buffer("boxes", torch.cat([places, torch.full_like(places, 24)], dim=1)[None])
        self.alone = alone

    def forward(self, images: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        scores = self.body(images).flatten(2).transpose(1, 2).sigmoid()
        if not self.alone:
            return torch.cat([self.boxes.expand(images.shape[0], -1, -1), scores], dim=2)
        sure, labels = (scores[0, :, :1] * scores[0, :, 1:]).max(dim=1)
        centre, half = self.boxes[0, :, :2], self.boxes[0, :, 2:] / 2
        corners = torch.cat([centre - half, centre + half], dim=1)
        kept = nms(corners, sure, 0.5)
        return corners[kept], labels[kept], sure[kept]


def log_transformers(model: nn.Module, processor: object, name: str) -> None:
    whole = {"model": model.eval(), "image_processor": processor}
    kept = {"name": "model", "registered_model_name": name, "pip_requirements": ["transformers"]}
    mlflow.transformers.log_model(whole, task="object-detection", **kept)


def log_onnx(model: nn.Module, name: str, folder: Path, *, alone: bool) -> None:
    path, example = folder / f"{name}.onnx", torch.zeros(1 if alone else 2, 3, SIDE, SIDE)
    names = ["boxes", "labels", "scores"] if alone else ["proposals"]
    axes = {} if alone else {"images": {0: "n"}, "proposals": {0: "n"}}
    kept = {"input_names": ["images"], "output_names": names, "dynamic_axes": axes}
    torch.onnx.export(model.eval(), (example,), path, dynamo=False, **kept)
    taken = ModelSignature(inputs=Schema([TensorSpec(np.dtype(np.float32), (-1, 3, SIDE, SIDE))]))
    kept = {"name": "model", "registered_model_name": name, "pip_requirements": ["onnx"]}
    mlflow.onnx.log_model(onnx.load(path), signature=taken, **kept)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("detectors")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("attrail", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("attrail")
    torch.manual_seed(0)
    small = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1] * 4, out_features=["stage4"])
    detr = DetrConfig(backbone_config=small, **BACKBONE, **TINY)
    log_transformers(DetrForObjectDetection(detr), DetrImageProcessor(), "detr")
    yolos = YolosConfig(image_size=[SIDE, SIDE], patch_size=8, num_detection_tokens=8, num_labels=CLASSES, **VISION)
    log_transformers(YolosForObjectDetection(yolos), YolosImageProcessor(), "yolos")
    log_onnx(Grid(), "grid", folder, alone=False)
    log_onnx(Grid(alone=True), "alone", folder, alone=True)
    mlflow.set_tracking_uri(before)
    return Registry(f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture(scope="module")
def photographs() -> Slice:
    images = np.stack([each()[:256:4, :256:4] for each in (data.astronaut, data.coffee, data.chelsea)])
    pixels = np.ascontiguousarray(images.transpose(0, 3, 1, 2) / 127.5 - 1, dtype=np.float32)
    return Slice("photographs", pixels, np.full(3, -1), ("astronaut", "coffee", "chelsea"))


@pytest.mark.parametrize("model", ["detr", "yolos", "grid", "alone"])
@pytest.mark.parametrize("explainer", ["shap", "gradcam", "saliency"])
def test_boxes_that_it_finds_are_explained(registry: Registry, photographs: Slice, model: str, explainer: str) -> None:
    more = {"classes": CLASSES} if model == "alone" else {}
    task = make_task("detection", {"threshold": 0.1, "iou": 0.4, **more})
    classifier = registry.load(registry.resolve(model, "1")).for_task(task)
    slice_ = photographs.asking(questions_found(classifier, photographs))
    method, target = make_explainer(explainer, FEW if explainer == "shap" else {}), task.asked(slice_)
    assert target is not None
    (maps,) = explain_slice(classifier, slice_, [method], target, 0)
    assert classifier.working_copy(slice_.images).classes == CLASSES
    assert maps.defined.all()


def test_onnx_and_the_module_that_it_was_exported_from_have_the_same_maps(
    registry: Registry, photographs: Slice
) -> None:
    task = make_task("detection", {"threshold": 0.1, "iou": 0.4})
    exported = registry.load(registry.resolve("grid", "1")).for_task(task)
    slice_ = photographs.asking(questions_found(exported, photographs))
    target, method = task.asked(slice_), make_explainer("shap", FEW)
    assert target is not None
    parent = Classifier("grid", "parent", Grid(), task=task)
    (first,), (second,) = (explain_slice(each, slice_, [method], target, 0) for each in (exported, parent))
    assert np.abs(first.values - second.values).max() <= 1e-3 * np.abs(second.values).max()
