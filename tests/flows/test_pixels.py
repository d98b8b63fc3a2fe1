"""Versions that take uint8 pixels beside one that takes normalised floats: one slice, one comparison."""

from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_flows.configuration import AuditConfig, read_config
from attrail_flows.engine.explained import Explained
from attrail_flows.engine.serial_engine import explaining_in_turn
from attrail_flows.inputs.preflight import preflight_version
from attrail_flows.inputs.slices import load_slices, preprocessing_of, read_tables
from attrail_mlflow import log_classifier
from attrail_mlflow.registry.registry import Registry

SIDE, IMAGES = 24, 6
USUAL = {"size": (SIDE, SIDE), "mean": (0.5, 0.4, 0.3), "std": (0.25, 0.3, 0.35)}
PLAIN = USUAL | {"mean": (0.0,) * 3, "std": (1.0,) * 3}
EXAMPLE = torch.zeros(2, 3, SIDE, SIDE)
CONFIG = """
[registry]
tracking_uri = "{uri}"
model = "m"
reference = "{reference}"
candidate = "{candidate}"

[[slice]]
name = "noise"
source = "slice.csv"

[[explainer]]
name = "gradcam"

[[explainer]]
name = "shap"
evaluations = 40
segments = 6
"""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, images: torch.Tensor) -> Any:
        return self.head(self.body(images).mean(dim=(2, 3)))


class Normalising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = Net()
        self.mean, self.std = (torch.tensor(USUAL[name])[:, None, None] for name in ("mean", "std"))

    def forward(self, pixels: torch.Tensor) -> Any:
        return self.net((pixels.float() / 255 - self.mean) / self.std)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1 takes floats, 2 uint8, 3 is ONNX and takes uint8; 4 and 5 are made of other pixels or for other numbers."""
    folder = tmp_path_factory.mktemp("pixels")
    drawn = np.random.default_rng(0)
    for row in range(IMAGES):
        Image.fromarray(drawn.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(folder / f"{row}.png")
    pd.DataFrame({"image": [f"{row}.png" for row in range(IMAGES)], "label": [0, 1, 2] * 2}).to_csv(
        folder / "slice.csv", index=False
    )
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("attrail", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("attrail")
    log_classifier(Net(), "m", EXAMPLE, USUAL)
    log_classifier(Normalising(), "m", EXAMPLE.byte(), PLAIN)
    more: dict[str, Any] = {"dynamo": False, "input_names": ["input"], "dynamic_axes": {"input": {0: "batch"}}}
    torch.onnx.export(Normalising().eval(), (EXAMPLE.byte(),), folder / "m.onnx", **more)
    mlflow.onnx.log_model(
        onnx.load(folder / "m.onnx"), name="model", registered_model_name="m", pip_requirements=["onnx"]
    )
    log_classifier(Normalising(), "m", EXAMPLE.byte(), PLAIN | {"crop": 0.5})
    log_classifier(Net(), "m", EXAMPLE, PLAIN)
    mlflow.set_tracking_uri(before)
    return folder


def config_for(place: Path, reference: str, candidate: str) -> AuditConfig:
    path = place / "attrail.toml"
    uri = f"sqlite:///{place / 'mlflow.db'}"
    path.write_text(CONFIG.format(uri=uri, reference=reference, candidate=candidate))
    return read_config(path)


def explained(place: Path, reference: str, candidate: str) -> tuple[Explained, Explained]:
    config = config_for(place, reference, candidate)
    registry = Registry(config.registry.tracking_uri)
    versions = [registry.resolve("m", each) for each in (reference, candidate)]
    slices = load_slices(read_tables(config, versions[0]), preprocessing_of(config, versions))
    with explaining_in_turn(registry, config, place) as session:
        first = session.explain(versions[0], slices, None, lambda images: None)
        return first, session.explain(versions[1], slices, first, lambda images: None)


@pytest.mark.parametrize(("reference", "candidate"), [("1", "2"), ("2", "1"), ("1", "3")])
def test_the_same_function_of_pixels_has_the_same_evidence(place: Path, reference: str, candidate: str) -> None:
    first, second = explained(place, reference, candidate)
    assert np.allclose(first.logits["noise"], second.logits["noise"], atol=1e-5)
    for one, other, allowed in zip(first.maps, second.maps, (1e-5, 0.01), strict=True):
        assert one.comparability == other.comparability
        assert np.abs(one.values - other.values).max() <= allowed * np.abs(one.values).max(), one.explainer


def test_one_version_of_pixels_alone_passes_the_preflight_and_is_explained(place: Path) -> None:
    registry, version = preflight_version(config_for(place, "2", "2"), "2")
    assert version.input_type == "uint8"
    assert registry.load(version).takes == "uint8"


def test_other_pixels_are_no_comparison_and_other_normalisations_of_floats_neither(place: Path) -> None:
    for candidate in ("4", "5"):
        with pytest.raises(ConfigError, match=f"m/{candidate} was logged with another preprocessing than m/1"):
            explained(place, "1", candidate)


def test_a_signature_that_denies_the_program_is_said(place: Path) -> None:
    registry = Registry(f"sqlite:///{place / 'mlflow.db'}")
    version = registry.resolve("m", "1")
    with pytest.raises(UnsupportedModelError, match=r"m/1 was logged for uint8 images, and its files say .* float32"):
        registry.load(type(version)(**{**vars(version), "input_type": "uint8"}))
