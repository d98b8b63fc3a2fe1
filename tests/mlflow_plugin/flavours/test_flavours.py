"""What every flavour promises; every file of ``flavours/`` is held to it, on what MLflow itself writes."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from torch import nn

import attrail_mlflow.flavours
from attrail_explainers.errors import RegistryError
from attrail_mlflow.flavour import FLAVOURS, flavour_among, flavours
from attrail_mlflow.registry.mlmodel_file import read_mlmodel
from attrail_mlflow.registry.model_folder import checked_folder

EXAMPLE = np.zeros((2, 3, 8, 8), np.float32)
IMAGES = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
WHAT = "model digits/1"


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten()).eval()


def by_pytorch(serialization_format: str) -> Callable[[Path], object]:
    more: dict[str, Any] = {"input_example": EXAMPLE, "pip_requirements": ["torch"]}
    return lambda folder: mlflow.pytorch.save_model(
        net(), str(folder), serialization_format=serialization_format, **more
    )


# How MLflow writes it: a new flavour needs a line here.
WRITTEN = {"pytorch_pt2": by_pytorch("pt2"), "pytorch_pickle": by_pytorch("pickle")}

every_flavour = pytest.mark.parametrize("name", FLAVOURS.names())


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[str], Path]:
    def save(name: str) -> Path:
        WRITTEN[name](tmp_path / name)
        return tmp_path / name

    return save


def refused(folder: Path, *, allow_pickle: bool = True) -> str:
    with pytest.raises(RegistryError) as error:
        checked_folder(folder, WHAT, allow_pickle=allow_pickle)
    assert str(error.value).startswith(WHAT)
    assert "\n" not in str(error.value)
    return str(error.value)


@every_flavour
def test_what_mlflow_writes_is_the_classifier_that_was_logged(name: str, saved: Callable[[str], Path]) -> None:
    folder = saved(name)
    found = checked_folder(folder, WHAT, allow_pickle=True)
    assert type(found.flavour) is FLAVOURS.class_of(name)
    classifier, state = found.flavour.classifier(found.path, "digits", "1"), found.flavour.state(found.path, "digits/1")
    expected = net()(torch.from_numpy(IMAGES)).detach().numpy()
    assert classifier.label == "digits/1"
    assert classifier.program_digest
    if state is not None:
        assert set(state.tensors) == set(net().state_dict())
    assert classifier.logits(IMAGES, ("a", "b")) == pytest.approx(expected, abs=1e-5)


@every_flavour
def test_what_can_run_code_needs_leave(name: str, saved: Callable[[str], Path]) -> None:
    folder, runs_code = saved(name), FLAVOURS.class_of(name).runs_code
    if runs_code:
        assert "allow_pickle = true" in refused(folder, allow_pickle=False)
    else:
        assert checked_folder(folder, WHAT, allow_pickle=False).flavour.runs_code is False


@every_flavour
def test_each_of_its_files_is_needed_and_no_other_is_taken(name: str, saved: Callable[[str], Path]) -> None:
    folder, members = saved(name), FLAVOURS.class_of(name).members
    data = folder / read_mlmodel(folder, WHAT).data
    assert {path.name for path in data.iterdir()} == set(members)
    for more in ("code.py", members[0].upper(), f"{members[0]}.bak", "deeper/more.bin"):
        (data / more).parent.mkdir(exist_ok=True)
        (data / more).write_bytes(b"no model")
        assert repr(f"{data.name}/{more}") in refused(folder)
        (data / more).unlink()
    for lost in members:
        content = (data / lost).read_bytes()
        (data / lost).unlink()
        assert lost in refused(folder) or FLAVOURS.class_of(name).runs_code  # whose other files are too many then
        (data / lost).write_bytes(content)
    assert checked_folder(folder, WHAT, allow_pickle=True)


def test_those_of_one_section_differ_in_their_files_alone() -> None:
    models = [each.members[0] for each in flavours()]
    assert len(set(models)) == len(models)
    told: dict[str, set[Any]] = {}
    for each in flavours():
        told.setdefault(each.name, set()).add((each.title, each.keys, each.data_key, each.loader))
    assert all(len(same) == 1 for same in told.values())


def test_of_several_models_the_one_that_can_run_code_counts() -> None:
    both = {each.members[0] for each in flavours() if each.name == "pytorch"}
    assert flavour_among(both, "pytorch").runs_code
    assert not flavour_among({"other.bin"}, "pytorch").runs_code


def test_looking_at_flavours_loads_neither_torch_nor_mlflow() -> None:
    code = "import sys; from attrail_mlflow.flavour import flavours; flavours(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"torch", "mlflow"} & set(loaded)


NEW = """
from attrail_explainers.model.loading import classifier_from_module


class Doubled:
    name, title, keys = "doubled", "Doubled", frozenset({"folder"})
    data_key, loader, runs_code, members = "folder", "mlflow.doubled", False, ("weights.bin",)

    def require_known(self, folder, what):
        pass

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
    document: dict[str, Any] = {"flavors": {"doubled": {"folder": "data"}}}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    assert "was not logged with MLflow's PyTorch flavour, its flavors are doubled" in refused(folder)
    monkeypatch.setattr(
        attrail_mlflow.flavours, "__path__", [*attrail_mlflow.flavours.__path__, str(tmp_path / "more")]
    )
    monkeypatch.setitem(sys.modules, "attrail_mlflow.flavours.doubled", None)  # put back afterwards: not there
    del sys.modules["attrail_mlflow.flavours.doubled"]
    found = checked_folder(folder, WHAT)
    assert found.flavour.classifier(found.path, "digits", "1").logits(IMAGES, ("a", "b")).shape == (2, 192)
    document["flavors"]["pytorch"] = {"model_data": "data"}
    (folder / "MLmodel").write_text(yaml.safe_dump(document))
    assert "has several flavours of models, its flavors are doubled, pytorch" in refused(folder)
    (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": {"sklearn": {}}}))
    assert "MLflow's Doubled or PyTorch flavour" in refused(folder)
