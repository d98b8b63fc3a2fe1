"""A registry with some versions of a model, a slice and a configuration, in a folder of its own."""

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import timm
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from attrail_explainers.slice import Preprocessing
from attrail_mlflow.log_classifier import log_classifier

sys.path.append(str(Path(__file__).resolve().parents[2] / "deploy" / "demo"))
from digits import load_scans, write_slice
from train import ARCHITECTURE, OPTIONS, Recipe, log_version, trained

AUDIT = """
[registry]
tracking_uri = "sqlite:///mlflow.db"
model = "{model}"
candidate = "2"

[[slice]]
name = "validation"
source = "slices/{table}"
"""
METHODS = ("gradcam", "shap", "lime")


@dataclass(frozen=True)
class Staged:
    """Where it lies: the ``config`` file, and the address of the ``registry``."""

    folder: Path
    model: str

    @property
    def config(self) -> Path:
        return self.folder / "attrail.toml"

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder / 'mlflow.db'}"

    def write_config(self, table: str, methods: Sequence[str] = METHODS, more: str = "") -> None:
        text = AUDIT.format(model=self.model, table=table)
        text += "".join(f'\n[[explainer]]\nname = "{name}"\n' for name in methods)
        self.config.write_text(text + more, encoding="utf-8")


def place(folder: Path, model: str) -> Staged:
    """An empty registry below a folder, the process's own from now on."""
    staged = Staged(folder, model)
    mlflow.set_tracking_uri(staged.uri)
    for experiment in ("training", "attrail"):
        mlflow.create_experiment(experiment, artifact_location=str(folder / "artifacts" / experiment))
    mlflow.set_experiment("training")
    return staged


def digits(folder: Path, images: int, versions: int) -> Staged:
    """Versions of the demo's net (64x64 pixels), a few epochs each, and scans it was not trained on."""
    staged = place(folder, "digits")
    scans = load_scans(seed=0)
    slice_ = scans[300 : 300 + images]
    write_slice(slice_, folder / "slices")
    for model in trained([Recipe(scans[:300], seed, 4, class_coded=False) for seed in range(versions)], workers=2):
        log_version(model, slice_)
    return _finished(staged)


def larger(folder: Path, images: int, versions: int, side: int = 152) -> Staged:
    """The demo's network with random weights on its scans enlarged: 256 of them take two minutes."""
    staged = place(folder, "larger")
    write_slice(load_scans(seed=0)[:images], folder / "slices")
    plain = Preprocessing((side, side), (0.5,) * 3, (0.5,) * 3)
    for seed in range(versions):
        torch.manual_seed(seed)
        _log(timm.create_model(ARCHITECTURE, **OPTIONS).eval(), "larger", plain)
    return _finished(staged)


def lite0(folder: Path, images: int, versions: int) -> Staged:
    """EfficientNet-lite0 (224x224 pixels, 4.7 million weights) with random weights, and noise: the cost is the same."""
    staged = place(folder, "lite0")
    plain = Preprocessing((224, 224), (0.5,) * 3, (0.5,) * 3)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 224, 224, 3), dtype=np.uint8)
    _write_pictures(folder / "slices", pixels, [row % 10 for row in range(images)])
    for seed in range(versions):
        torch.manual_seed(seed)
        module = timm.create_model("efficientnet_lite0", num_classes=10).eval()
        _log(module, "lite0", plain)
    return _finished(staged)


class Tiny(nn.Module):
    """Two convolutions for images of 16x16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(images)).flatten(1))


TINY = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)


def tiny(folder: Path, versions: int, images: int = 0) -> Staged:
    """Versions of ``Tiny`` that differ a little, and a slice of noise on which the first is always right."""
    staged = place(folder, "tiny")
    torch.manual_seed(0)
    module = first = Tiny()
    for _ in range(versions):
        _log(module, "tiny", TINY)
        module = copy.deepcopy(module)
        with torch.no_grad():
            for each in module.parameters():
                each.add_(0.1 * each.std(correction=0) * torch.randn_like(each))
    if images:
        pixels = np.random.default_rng(0).integers(0, 256, (images, 16, 16, 3), dtype=np.uint8)
        _write_pictures(folder / "slices", pixels, _decided(first, pixels))
    return _finished(staged)


def _decided(module: nn.Module, pixels: NDArray[np.uint8]) -> list[int]:
    """The class that a model of images between -1 and 1 gives each of (N,H,W,3)."""
    found: list[int] = []
    with torch.inference_mode():
        for some in torch.from_numpy(pixels).split(1000):
            found += module(some.permute(0, 3, 1, 2) / 127.5 - 1).argmax(dim=1).tolist()
    return found


def noise(images: int) -> NDArray[np.float32]:
    """Images (N,3,16,16) of noise."""
    return np.random.default_rng(0).standard_normal((images, 3, 16, 16), np.float32)


def _log(module: nn.Module, name: str, plain: Preprocessing) -> None:
    log_classifier(module, name, np.zeros((2, 3, *plain.size), np.float32), plain, [str(each) for each in range(10)])


def _write_pictures(folder: Path, pictures: NDArray[np.uint8], labels: Sequence[int]) -> None:
    folder.mkdir(parents=True)
    for row, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{row:06d}.png")
    lines = [f"{row:06d}.png,{label}" for row, label in enumerate(labels)]
    (folder / "validation.csv").write_text("image,label\n" + "\n".join(lines) + "\n", encoding="utf-8")


def _finished(staged: Staged) -> Staged:
    mlflow.MlflowClient().set_registered_model_alias(staged.model, "champion", "1")
    staged.write_config("validation.csv")
    return staged
