"""What every flavour promises; every file of ``flavours/`` is held to it, on what MLflow itself writes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import onnx
import pytest
import torch
import yaml
from torch import nn
from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

import attrail_mlflow.flavours
from attrail_explainers.errors import RegistryError
from attrail_mlflow.flavour import FLAVOURS, flavour_among, flavours, named
from attrail_mlflow.registry.mlmodel_file import read_mlmodel
from attrail_mlflow.registry.model_folder import BESIDE, checked_folder

EXAMPLE = np.zeros((2, 3, 8, 8), np.float32)
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
WHAT = "model digits/1"


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten()).eval()


def by_pytorch(serialization_format: str) -> Callable[[Path], nn.Module]:
    more: dict[str, Any] = {"input_example": EXAMPLE, "pip_requirements": ["torch"]}

    def save(folder: Path) -> nn.Module:
        mlflow.pytorch.save_model(net(), str(folder), serialization_format=serialization_format, **more)
        return net()

    return save


def by_transformers(folder: Path) -> nn.Module:
    torch.manual_seed(0)
    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=3)
    model = ResNetForImageClassification(config).eval()
    whole = {"model": model, "image_processor": ConvNextImageProcessor(size={"shortest_edge": 8})}
    mlflow.transformers.save_model(whole, str(folder), task="image-classification", pip_requirements=["transformers"])
    return model


def by_onnx(folder: Path) -> nn.Module:
    torch.onnx.export(net(), (torch.from_numpy(EXAMPLE),), folder.with_suffix(".onnx"), dynamo=False)
    mlflow.onnx.save_model(onnx.load(folder.with_suffix(".onnx")), str(folder), pip_requirements=["onnx"])
    return net()


class Turned(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        return self.model(images.permute(0, 2, 3, 1), training=False)


def by_keras(folder: Path) -> nn.Module:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(3, 8), keras.layers.Dropout(0.5), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((8, 8, 3)), *layers])
    mlflow.keras.save_model(model, str(folder), pip_requirements=["keras"])
    return Turned(model)


# How MLflow writes it, and the module it is: a new flavour needs a line here.
WRITTEN: dict[str, Callable[[Path], nn.Module]] = {
    "keras": by_keras,
    "onnx": by_onnx,
    "pytorch_pickle": by_pytorch("pickle"),
    "pytorch_pt2": by_pytorch("pt2"),
    "transformers": by_transformers,
}

every_flavour = pytest.mark.parametrize("name", FLAVOURS.names())


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], tuple[Path, nn.Module]]:
    return lambda name: (tmp_path / name, WRITTEN[name](tmp_path / name))


def refused(folder: Path, *, allow_pickle: bool = True) -> str:
    with pytest.raises(RegistryError) as error:
        checked_folder(folder, WHAT, allow_pickle=allow_pickle)
    assert str(error.value).startswith(WHAT)
    assert "\n" not in str(error.value)
    return str(error.value)


@every_flavour
def test_what_mlflow_writes_is_the_model_that_was_logged(
    name: str, saved: Callable[[str], tuple[Path, nn.Module]]
) -> None:
    folder, module = saved(name)
    found = checked_folder(folder, WHAT, allow_pickle=True)
    assert type(found.flavour) is FLAVOURS.class_of(name)
    classifier, state = found.flavour.classifier(found.path, "digits", "1"), found.flavour.state(found.path, "digits/1")
    assert classifier.label == "digits/1"
    assert classifier.program_digest
    again = found.flavour.classifier(found.path, "digits", "1")
    assert again.identity == classifier.identity
    if state is not None:
        shapes = {tuple(each.shape) for each in module.state_dict().values()}
        assert {shape for _, shape in state.tensors.values()} == shapes
    with torch.no_grad():
        returned = module(torch.from_numpy(IMAGES))
    expected = getattr(returned, "logits", returned).numpy()
    assert classifier.logits(IMAGES, ("a", "b")) == pytest.approx(expected, abs=1e-5)


@every_flavour
def test_what_can_run_code_needs_leave(name: str, saved: Callable[[str], tuple[Path, nn.Module]]) -> None:
    (folder, _), runs_code = saved(name), FLAVOURS.class_of(name).runs_code
    if runs_code:
        assert "allow_pickle = true" in refused(folder, allow_pickle=False)
    else:
        assert checked_folder(folder, WHAT, allow_pickle=False).flavour.runs_code is False


@every_flavour
def test_a_wrapper_around_its_files_is_looked_through_unless_they_run_code(
    name: str, saved: Callable[[str], tuple[Path, nn.Module]]
) -> None:
    (folder, _), flavour = saved(name), FLAVOURS.class_of(name)()
    names = {f"artifacts/{path.relative_to(folder)}" for path in folder.rglob("*") if path.is_file()}
    assert len(flavour.inside(names)) == (0 if flavour.runs_code else 1)
    assert set(flavour.inside(names)) <= names


@every_flavour
def test_each_of_its_files_is_needed_and_no_other_is_taken(
    name: str, saved: Callable[[str], tuple[Path, nn.Module]]
) -> None:
    (folder, _), flavour = saved(name), FLAVOURS.class_of(name)()
    data = read_mlmodel(folder, WHAT, tuple).data
    members = [named(each, data) for each in flavour.members]
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert there >= set(members)
    assert all(each in BESIDE or each in members or flavour.may_have(each, data) for each in there)
    beside = Path(members[0]).parent
    for more in ("code.py", Path(members[0]).name.upper(), f"{Path(members[0]).name}.bak", "deeper/more.bin"):
        path = folder / beside / more
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"no model")
        assert repr(str(beside / more)) in refused(folder)
        path.unlink()
    for lost in members:
        content = (folder / lost).read_bytes()
        (folder / lost).unlink()
        assert lost in refused(folder) or flavour.runs_code  # whose other files are too many then
        (folder / lost).write_bytes(content)
    assert checked_folder(folder, WHAT, allow_pickle=True)


def test_those_of_one_section_differ_in_their_files_alone() -> None:
    models = [each.members[0] for each in flavours()]
    assert len(set(models)) == len(models)
    told: dict[str, set[Any]] = {}
    for each in flavours():
        told.setdefault(each.name, set()).add((each.title, each.keys, each.data_key, each.loader, each.pyfunc_data))
    assert all(len(same) == 1 for same in told.values())


def test_of_several_models_the_one_that_can_run_code_counts() -> None:
    both = {named(each.members[0], "data") for each in flavours() if each.name == "pytorch"}
    assert flavour_among(both, "pytorch", "data").runs_code
    assert not flavour_among({"data/other.bin"}, "pytorch", "data").runs_code


def test_looking_at_flavours_loads_neither_torch_nor_mlflow() -> None:
    code = "import sys; from attrail_mlflow.flavour import flavours; flavours(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "mlflow", "keras", "onnx", "transformers"} & set(loaded)


NEW = """
from attrail_explainers.model.loading import classifier_from_module


class Doubled:
    name, title, keys = "doubled", "Doubled", frozenset({"folder"})
    data_key, loader, pyfunc_data, runs_code = "folder", "mlflow.doubled", True, False
    log_again, members, describing = "log it doubled", ("{data}/weights.bin",), ("{data}/names.txt",)

    def may_have(self, name, data):
        return name == f"{data}/names.txt"

    def require_known(self, folder, data, what):
        pass

    def facts(self, folder, data, what):
        return {"classes": (folder / data / "names.txt").read_text().split()}

    def state(self, model, label):
        return None

    def classifier(self, model, name, version):
        import torch

        return classifier_from_module(torch.nn.Flatten(), name, version)


FLAVOUR = Doubled
"""


def test_a_new_flavour_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "doubled.py").write_text(NEW)
    folder = tmp_path / "model"
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "weights.bin").write_bytes(b"1")
    (folder / "data" / "names.txt").write_text("cat dog")
    document: dict[str, Any] = {"flavors": {"doubled": {"folder": "data"}}}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    told = "was not logged with MLflow's Keras or ONNX or PyTorch or transformers flavour, its flavors are doubled"
    assert told in refused(folder)
    monkeypatch.setattr(
        attrail_mlflow.flavours, "__path__", [*attrail_mlflow.flavours.__path__, str(tmp_path / "more")]
    )
    monkeypatch.setitem(sys.modules, "attrail_mlflow.flavours.doubled", None)  # put back afterwards: not there
    del sys.modules["attrail_mlflow.flavours.doubled"]
    found = checked_folder(folder, WHAT)
    assert found.flavour.classifier(found.path, "digits", "1").logits(IMAGES, ("a", "b")).shape == (2, 192)
    assert found.mlmodel.metadata["attrail"] == {"classes": ["cat", "dog"]}
    document["metadata"] = {"attrail": {"classes": ["owl", "ape"]}, "other": 1}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    assert read_mlmodel(folder, WHAT, tuple).metadata == document["metadata"]
    (folder / "data" / "code.py").write_text("")
    assert refused(folder).endswith("log it doubled")
    (folder / "data" / "code.py").unlink()
    document["flavors"]["pytorch"] = {"model_data": "data"}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    assert "has several flavours of models, its flavors are doubled, pytorch" in refused(folder)
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": {}}}))
    assert "MLflow's Doubled or Keras or ONNX or PyTorch or transformers flavour" in refused(folder)
