"""python_function models as users log them around a model's file: the file is found, and none of their code is run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import onnx
import pytest
import torch
import transformers
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema
from torch import nn

from attrail_explainers.errors import RegistryError
from attrail_mlflow.registry.registry import Registry

IMAGES = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
EXAMPLE = torch.zeros(2, 3, 16, 16)
SIGNATURE = ModelSignature(Schema([ColSpec("string", "image")]))  # base64, as many wrappers take
SCRIPT = """
import mlflow
from pathlib import Path

class Served(mlflow.pyfunc.PythonModel):
    def load_context(self, context):
        Path({witness!r}).touch()

    def predict(self, context, model_input, params=None):
        return model_input

Path({witness!r}).touch()
mlflow.models.set_model(Served())
"""


class Served(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return model_input


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 12 * 12, 3)).eval()


def as_onnx(folder: Path) -> Path:
    torch.onnx.export(net(), (EXAMPLE,), folder / "net.onnx", dynamo=False)
    return folder / "net.onnx"


def as_onnx_with_tensors_beside(folder: Path) -> Path:
    (folder / "large").mkdir()
    model = onnx.load(as_onnx(folder))
    onnx.save(model, folder / "large" / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    return folder / "large"


def as_pt2(folder: Path) -> Path:
    torch.export.save(torch.export.export(net(), (EXAMPLE,)), folder / "net.pt2")
    return folder / "net.pt2"


def as_keras(folder: Path) -> Path:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 5, activation="relu"), keras.layers.Flatten(), keras.layers.Dense(3)]
    keras.Sequential([keras.Input((16, 16, 3)), *layers]).save(folder / "best.keras")
    return folder / "best.keras"


def as_pretrained(folder: Path) -> Path:
    torch.manual_seed(0)
    small: dict[str, Any] = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    names = {0: "cat", 1: "dog", 2: "owl"}
    config = transformers.ViTConfig(**small, image_size=16, patch_size=8, id2label=names, label2id={})
    transformers.ViTForImageClassification(config).save_pretrained(folder / "vit")
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder / "vit")
    return folder / "vit"


def as_mlflow_has_it(folder: Path) -> Path:
    mlflow.pytorch.save_model(net(), str(folder / "inner"), input_example=EXAMPLE.numpy(), pip_requirements=["torch"])
    return folder / "inner"


@pytest.fixture
def registry(tmp_path: Path, no_experiment: None) -> Registry:
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.create_experiment("wrapped", artifact_location=str(tmp_path / "store"))
    mlflow.set_experiment("wrapped")
    return Registry()


def log(wrapper: Any, **artifacts: Path) -> None:
    mlflow.pyfunc.log_model(
        name="model",
        python_model=wrapper,
        artifacts={name: str(path) for name, path in artifacts.items()},
        signature=SIGNATURE,
        registered_model_name="served",
        pip_requirements=["mlflow"],
    )


@pytest.mark.parametrize(
    ("write", "flavour", "file"),
    [
        (as_onnx, "onnx", "artifacts/net.onnx"),
        (as_onnx_with_tensors_beside, "onnx", "artifacts/large/net.onnx"),
        (as_pt2, "pytorch", "artifacts/net.pt2"),
        (as_keras, "keras", "artifacts/best.keras"),
        (as_pretrained, "transformers", "artifacts/vit/config.json"),
        (as_mlflow_has_it, "pytorch", "artifacts/inner/data/model.pt2"),
    ],
)
def test_the_file_that_is_wrapped_is_the_model(
    write: Callable[[Path], Path], flavour: str, file: str, registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "names.json").write_text("[]")
    path, witness = write(tmp_path), tmp_path / "was_run"
    (tmp_path / "served.py").write_text(SCRIPT.format(witness=str(witness)))
    log(str(tmp_path / "served.py"), model=path, names=tmp_path / "names.json")
    witness.unlink()  # MLflow itself runs it when it is logged
    version = registry.resolve("served", "1")
    assert (version.wrapped, version.classes, version.input_type) == (file, None, None)
    assert registry.mlmodel(version.uri).flavor == flavour
    registry.require_loadable(version)
    classifier = registry.load(version)
    assert not witness.exists()
    logits = classifier.logits(IMAGES, ("a", "b"))
    assert logits.shape == (2, 3)
    if write not in (as_keras, as_pretrained):
        with torch.no_grad():
            assert logits == pytest.approx(net()(torch.from_numpy(IMAGES)).numpy(), abs=1e-5)
    if write is as_pretrained:
        assert version.class_names == ("cat", "dog", "owl")
        assert tuple(version.facts["preprocessing"]["size"]) == (16, 16)


def test_a_pickled_wrapper_is_not_opened(registry: Registry, tmp_path: Path) -> None:
    """And the graph by its own flavour, MLflow's python_function of which is no wrapper, is the same model."""
    log(Served(), model=as_onnx(tmp_path))
    (pickle,) = (tmp_path / "store").rglob("python_model.pkl")
    pickle.write_bytes(b"no pickle")
    mlflow.onnx.log_model(
        onnx.load(tmp_path / "net.onnx"), name="model", registered_model_name="served", pip_requirements=["onnx"]
    )
    versions = [registry.resolve("served", each) for each in "12"]
    assert [each.wrapped for each in versions] == ["artifacts/net.onnx", None]
    assert registry.load(versions[0]).identity == registry.load(versions[1]).identity


def state_dict(folder: Path) -> Path:
    torch.save(net().state_dict(), folder / "weights.pth")
    return folder / "weights.pth"


def lone_weights(folder: Path) -> Path:
    path = as_pretrained(folder)
    (path / "config.json").unlink()
    return path


def with_an_adapter(folder: Path) -> Path:
    path = as_pretrained(folder)
    (path / "adapter_config.json").write_text("{}")
    return path


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (state_dict, r"around artifacts/weights\.pth, among which is no model in ONNX .*: log the model itself with"),
        (lone_weights, r"around artifacts/vit/model\.safetensors, .*no model in ONNX"),
        (with_an_adapter, r"has the file artifacts/vit/adapter_config\.json beside its model; log it with"),
        (lambda folder: None, r"around nothing that was logged as its artifacts, among which is no model"),
    ],
)
def test_what_only_its_own_code_could_read_is_said(
    write: Callable[[Path], Path | None], told: str, registry: Registry, tmp_path: Path
) -> None:
    path = write(tmp_path)
    log(Served(), **({} if path is None else {"model": path}))
    with pytest.raises(RegistryError, match=told) as error:
        registry.load(registry.resolve("served", "1"))
    assert str(error.value).startswith("model models:/served/1 ")
    assert "\n" not in str(error.value)


def test_of_several_models_none_is_chosen(registry: Registry, tmp_path: Path) -> None:
    log(Served(), first=as_onnx(tmp_path), second=as_pt2(tmp_path))
    with pytest.raises(
        RegistryError, match=r"around 2 models \(artifacts/net\.onnx, artifacts/net\.pt2\): log the one"
    ):
        registry.resolve("served", "1")
