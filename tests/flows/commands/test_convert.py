"""``attrail convert`` on a registry: a version that Lightning's autolog would have left there, in training mode."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from PIL import Image

from attrail_explainers.conversion.process import Limits
from attrail_explainers.slice import Preprocessing
from attrail_flows.configuration import read_config
from attrail_flows.one_version.convert import Ordered, convert_version
from attrail_mlflow.registry.registry import Registry

Run = Callable[..., tuple[int, str, str]]
CODE = """
from torch import nn

class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        parts = nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.net = nn.Sequential(*parts, nn.Dropout(), nn.Linear(4, 10))

    def forward(self, x):
        return self.net(x.float())
"""


CONFIG = """
[registry]
tracking_uri = "{tracking_uri}"
model = "autologged"

[[slice]]
name = "validation"
source = "pictures"

[[explainer]]
name = "saliency"
"""
FACTS = {
    "classes": [str(digit) for digit in range(10)],
    "preprocessing": {"size": [32, 32], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


@dataclass(frozen=True)
class Store:
    """A store with one pickled version, ``models:/autologged/1``: its module, its address, an attrail.toml about it."""

    module: torch.nn.Module
    tracking_uri: str
    config: Path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_experiment: None) -> Iterator[Store]:
    """The module's class is importable, as a user's own, and its run has a parameter."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "own_digits.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    module = __import__("own_digits").Digits().train()
    for place in range(4):
        folder = tmp_path / "pictures" / str(place % 2)
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(place).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{place}.png")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    for experiment in ("training", "attrail"):
        mlflow.create_experiment(experiment, artifact_location=str(tmp_path / "artifacts" / experiment))
    _log(module)
    (tmp_path / "attrail.toml").write_text(CONFIG.format(tracking_uri=uri))
    yield Store(module, uri, tmp_path / "attrail.toml")
    sys.modules.pop("own_digits")


def _log(module: torch.nn.Module, kind: Any = np.float32) -> None:
    mlflow.set_experiment("training")
    signature = ModelSignature(Schema([TensorSpec(np.dtype(kind), (-1, 3, 32, 32))]))
    given = {"serialization_format": "pickle", "signature": signature, "pip_requirements": ["torch"]}
    about = {"registered_model_name": "autologged", "metadata": {"attrail": FACTS, "team": "scans"}}
    with mlflow.start_run():
        mlflow.log_param("lr", 0.01)
        mlflow.pytorch.log_model(module, name="model", **given, **about)
    mlflow.MlflowClient().set_registered_model_alias("autologged", "champion", "1")


def test_a_pickled_version_becomes_an_exported_one_once(attrail: Run, store: Store) -> None:
    uri, config = "models:/autologged/1", store.config
    status, _, err = attrail(
        "explain", uri, "--config", config, "--slice", "validation", "--explainer", "gradcam", "--out", Path("maps")
    )
    assert status == 2
    assert f"`attrail convert {uri}`" in err

    status, out, err = attrail("convert", uri, "--config", config)
    assert status == 0, err
    assert f"{uri} is models:/autologged/2 as well" in out
    assert "8 images of noise and 4 of the slices" in out
    assert "left in training mode" in out
    registry, client = Registry(store.tracking_uri), mlflow.MlflowClient()
    source, made = (registry.resolve("autologged", each) for each in "12")
    with registry.files(source, allow_pickle=True) as (_, files), registry.files(made) as (_, export):
        tags = client.get_model_version("autologged", "2").tags
        assert (tags["attrail.converted"], tags["attrail.converted_files"]) == (files, export)
    assert tags["attrail.converted_from"] == uri
    assert {each: str(to) for each, to in client.get_registered_model("autologged").aliases.items()} == {
        "champion": "1"
    }
    assert made.run_id == source.run_id  # which says how it was trained
    assert made.class_names == source.class_names
    assert made.facts["preprocessing"] == source.facts["preprocessing"]
    assert (made.metadata["team"], made.input_shape, made.classes) == ("scans", (3, 32, 32), 10)
    run = client.get_run(tags["attrail.conversion_run"])
    record = mlflow.artifacts.load_dict(f"{run.info.artifact_uri}/conversion.json")
    assert made.facts["conversion"] == record
    assert (run.info.status, run.data.tags["attrail.converted_from"]) == ("FINISHED", uri)
    assert record["source"]["files"] == files
    assert record["same_function"]["images"] == 12
    assert not record["lacking"]
    images = np.random.default_rng(1).normal(size=(4, 3, 32, 32)).astype(np.float32)
    with torch.inference_mode():
        expected = store.module.eval()(torch.from_numpy(images)).numpy()
    assert np.allclose(registry.load(made).logits(images, tuple("abcd")), expected, atol=1e-5)
    assert np.allclose(mlflow.pyfunc.load_model("models:/autologged/2").predict(images), expected, atol=1e-5)

    for again in (uri, "models:/autologged/2"):
        status, out, _ = attrail("convert", again, "--config", config)
        assert (status, out.startswith("nothing ")) == (0, True)
    assert "is no pickle" in out
    with pytest.raises(mlflow.MlflowException):
        client.get_model_version("autologged", "3")


@pytest.mark.slow
def test_a_pickle_of_pixels_becomes_an_export_of_pixels(store: Store) -> None:
    _log(store.module, np.uint8)
    lines = convert_version(read_config(store.config), "models:/autologged/2", Ordered(Limits()))
    assert "8 images of noise and 4 of the slices" in "".join(lines)
    made = Registry(store.tracking_uri).resolve("autologged", "3")
    pixels = np.random.default_rng(1).integers(0, 256, (4, 3, 32, 32), np.uint8)
    with torch.inference_mode():
        expected = store.module.eval()(torch.from_numpy(pixels)).numpy()
    assert made.input_type == "uint8"
    assert np.allclose(mlflow.pyfunc.load_model(made.uri).predict(pixels), expected, atol=1e-4)
    classifier = Registry(store.tracking_uri).load(made).for_images(Preprocessing((32, 32), (0.5,) * 3, (0.5,) * 3))
    assert np.allclose(classifier.logits((pixels / 127.5 - 1).astype(np.float32), tuple("abcd")), expected, atol=1e-4)


def test_what_is_asked_wrong_is_told_before_anything_is_loaded(attrail: Run, store: Store) -> None:
    uri, config = "models:/autologged/1", store.config
    for shape in ("3,64", "3,64,0", "three,64,64"):
        status, _, err = attrail("convert", uri, "--config", config, "--shape", shape)
        assert (status, "is no size of an image" in err) == (2, True)
    status, _, err = attrail("convert", uri, "--config", config, "--shape", "3,16,16", "--to", "elsewhere")
    assert (status, "correct --shape or [preprocessing] size" in err) == (2, True)
    with pytest.raises(mlflow.MlflowException):
        mlflow.MlflowClient().get_registered_model("elsewhere")
    status, _, err = attrail("convert", "models:/autologged/9", "--config", config)
    assert (status, "has no version" in err) == (2, True)
