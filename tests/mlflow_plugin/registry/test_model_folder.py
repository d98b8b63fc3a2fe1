"""Model folders are looked at before anything of them is loaded; real ones as MLflow 3 logs them, changed by hand."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import torch
import yaml
from mlflow.models import infer_signature
from torch import nn

from attrail_explainers.errors import AttrailError, RegistryError
from attrail_mlflow.registry.mlmodel_file import read_mlmodel
from attrail_mlflow.registry.registry import Registry

EXAMPLE = np.zeros((2, 3, 8, 8), np.float32)
CODE = "attrail_test_code_that_came_with_a_model"


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).mean((2, 3)))


@dataclass
class Store:
    """A registry with a local artifact store."""

    registry: Registry
    folder: Path

    def log(self, name: str, **arguments: Any) -> Path:
        """Log and register a network; the folder with its files, as they lie in the store."""
        torch.manual_seed(0)
        given = {"input_example": EXAMPLE, "pip_requirements": ["torch"]} | arguments
        module = given.pop("module", None) or Net().eval()
        info = mlflow.pytorch.log_model(module, name="model", registered_model_name=name, **given)
        return Path(self.registry.client.get_logged_model(info.model_id).artifact_location.removeprefix("file://"))

    def refused(self, name: str, *, allow_pickle: bool = True) -> str:
        """Why the newest version is refused: in one sentence, naming it, and for good."""
        registry = Registry(self.registry.tracking_uri)
        with pytest.raises(AttrailError) as error:
            registry.load(registry.resolve(name, "1"), allow_pickle=allow_pickle)
        assert "\n" not in str(error.value)
        assert f"{name}/1" in str(error.value)
        assert not getattr(error.value, "transient", False)
        return str(error.value)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("store")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("models", (folder / "files").as_uri()))
    yield Store(Registry(f"sqlite:///{folder}/mlflow.db"), folder)
    mlflow.set_tracking_uri(before)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "-", request.node.name)[:120]


def change_mlmodel(folder: Path, change: Callable[[Any], object]) -> None:
    document = yaml.safe_load((folder / "MLmodel").read_text())
    change(document)
    (folder / "MLmodel").write_text(yaml.safe_dump(document))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"metadata": {"attrail": {"classes": ["a", "b", "c"]}}},
        {"pip_requirements": None, "conda_env": {"name": "x", "dependencies": ["python=3.11", {"pip": ["torch"]}]}},
        {"input_example": torch.zeros(2, 3, 8, 8), "signature": infer_signature(EXAMPLE, np.zeros((2, 3), np.float32))},
    ],
    ids=["plain", "metadata", "conda", "tensor"],
)
def test_what_mlflow_logs_is_loaded(store: Store, name: str, arguments: dict[str, Any]) -> None:
    store.log(name, **arguments)
    version = store.registry.resolve(name, "1")
    store.registry.require_loadable(version)
    assert store.registry.load(version).label == f"{name}/1"
    assert version.metadata == arguments.get("metadata", {})
    assert (version.classes, version.input_shape) == (3, (3, 8, 8))


def test_every_usual_way_of_logging_is_loaded(store: Store, name: str, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("torch\n")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("a")
    ways: list[dict[str, Any]] = [
        {"pip_requirements": str(tmp_path / "requirements.txt")},
        {"pip_requirements": ["torch", f"-c {tmp_path / 'requirements.txt'}"]},
        {"pip_requirements": None, "extra_pip_requirements": ["timm"]},
        {"tags": {"team": "imaging"}, "params": {"seed": 0}, "step": 3, "model_type": "classifier"},
        {"requirements_file": str(tmp_path / "requirements.txt")},
        {"extra_files": [str(tmp_path / "notes")]},
    ]
    for number, arguments in enumerate(ways, start=1):
        store.log(name, **arguments)
        version = store.registry.resolve(name, str(number))
        store.registry.require_loadable(version)
        assert store.registry.load(version).label == f"{name}/{number}", arguments


def test_files_that_were_logged_beside_it_are_left_alone(store: Store, name: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    folder = store.log(name, extra_files=[str(tmp_path / "classes.txt")])
    assert store.registry.load(store.registry.resolve(name, "1"))
    (folder / "extra_files" / "more.txt").write_text("nobody said so")
    assert "'extra_files/more.txt'" in store.refused(name)


@pytest.mark.parametrize("allow_pickle", [False, True])
@pytest.mark.parametrize("serialization_format", ["pt2", "pickle"])
def test_code_that_comes_with_a_model_is_not_imported(
    store: Store, name: str, tmp_path: Path, serialization_format: str, allow_pickle: bool
) -> None:
    (tmp_path / f"{CODE}.py").write_text("LOADED = True\n")
    folder = store.log(name, code_paths=[str(tmp_path / f"{CODE}.py")], serialization_format=serialization_format)
    assert (folder / "code" / f"{CODE}.py").is_file()
    path = list(sys.path)
    with pytest.raises(RegistryError, match="brings code of its own"):
        store.registry.resolve(name, "1")
    change_mlmodel(folder, lambda document: [each.update(code=None) for each in document["flavors"].values()])
    said = store.refused(name, allow_pickle=allow_pickle)
    assert f"'code/{CODE}.py'" in said or ("pickled" in said and not allow_pickle)
    assert CODE not in sys.modules
    assert sys.path == path


def test_pickles_are_loaded_only_if_the_policy_says_so(store: Store, name: str) -> None:
    folder = store.log(name, module=nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten()), serialization_format="pickle")
    assert "allow_pickle = true" in store.refused(name, allow_pickle=False)
    version = store.registry.resolve(name, "1")
    with pytest.raises(RegistryError, match="allow_pickle = true"):
        store.registry.require_loadable(version)
    assert not store.registry.load(version, allow_pickle=True).module.training
    (folder / "data" / "pickle_module_info.txt").write_text("shelve")
    assert "'shelve'" in store.refused(name)


def test_a_damaged_pickle_says_so(store: Store, name: str) -> None:
    folder = store.log(name, serialization_format="pickle")
    (folder / "data" / "model.pth").write_bytes(b"\x80\x04")
    assert "is pickled and cannot be loaded here" in store.refused(name)


@pytest.mark.parametrize(
    "more",
    [
        "code/a.py", "data/model.pth", "data/MODEL.pt2", "data/pickle_module_info.txt", "mlmodel", "python_model.pkl",
        "data/code.py", "sitecustomize.py", "artifacts/a.bin", "metadata/a", ".hidden", "extra_files/a",
    ],
)  # fmt: skip
def test_other_files_are_refused_by_name(store: Store, name: str, more: str) -> None:
    folder = store.log(name)
    (folder / more).parent.mkdir(exist_ok=True)
    (folder / more).write_bytes(b"mlflow.pytorch.pickle_module")
    said = store.refused(name)
    assert repr("data/model.pt2" if more == "data/model.pth" else more) in said
    with pytest.raises(RegistryError):
        store.registry.require_loadable(store.registry.resolve(name, "1"))


@pytest.mark.parametrize("lost", ["MLmodel", "data/model.pt2"])
def test_missing_files_are_named(store: Store, name: str, lost: str) -> None:
    folder = store.log(name)
    (folder / lost).unlink()
    with pytest.raises(RegistryError, match=lost) as error:
        store.registry.load(store.registry.resolve(name, "1"))
    assert not error.value.transient


def pyfunc(**changed: Any) -> Callable[[Any], object]:
    return lambda document: document["flavors"]["python_function"].update(changed)


def pytorch(**changed: Any) -> Callable[[Any], object]:
    return lambda document: document["flavors"]["pytorch"].update(changed)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (pyfunc(loader_module="somebody.loader"), "'somebody.loader'"),
        (pyfunc(python_model="python_model.pkl"), "python_function.python_model"),
        (pyfunc(model_code_path="agent.py"), "python_function.model_code_path"),
        (pyfunc(config={"device": None, "more": 1}), "device alone"),
        (pyfunc(data="other"), "different files"),
        (pyfunc(code="code"), "brings code"),
        (pytorch(code="../code"), "brings code"),
        (pytorch(code=""), "brings code"),
        (pytorch(torchserve_artifacts_config={}), "pytorch.torchserve_artifacts_config"),
        (pytorch(model_data="../data"), "model_data"),
        (pytorch(model_data="/data"), "model_data"),
        (pytorch(model_data="."), "model_data"),
        (pytorch(model_data=".."), "model_data"),
        (pytorch(model_data="a/b"), "model_data"),
        (pytorch(model_data="a\\b"), "model_data"),
        (pytorch(model_data=7), "model_data"),
        (pytorch(extra_files={"a": "b"}), "extra_files"),
        (pytorch(extra_files=["a"]), "extra_files"),
        (lambda document: document.update(loader="x"), "'loader'"),
        (lambda document: document["flavors"].update(sklearn={}), "'sklearn'"),
        (lambda document: document.update(flavors={"sklearn": {}, "python_function": {}}), "python_function, sklearn"),
        (lambda document: document.update(flavors=None), "names no flavors"),
        (lambda document: document.update(flavors={"pytorch": "data"}), "names no flavors"),
        (lambda document: document.pop("flavors"), "names no flavors"),
    ],
)
def test_other_keys_are_refused_by_name(
    store: Store, tmp_path: Path, change: Callable[[Any], object], said: str
) -> None:
    if not (store.folder / "keys").exists():
        shutil.copytree(store.log("keys"), store.folder / "keys")
    shutil.copy(store.folder / "keys" / "MLmodel", tmp_path)
    change_mlmodel(tmp_path, change)
    with pytest.raises(RegistryError, match=re.escape(said)):
        read_mlmodel(tmp_path, "model digits/1", tuple)


LAUGHS = "a: &a [1, 1]\n" + "".join(
    f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}]\n" for old, new in zip("abcdefghij", "bcdefghijk", strict=True)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "NoneType"),
        (b"- a\n- b\n", "list"),
        (b"just words", "str"),
        (b"\x00\x01\x02", "no plain YAML"),
        (b"\xff\xfe\xfd", "no plain YAML"),
        (b"flavors: [", "no plain YAML"),
        (b"flavors: {}\nflavors: {}\n", "twice"),
        (b"a: 1\n---\nb: 2\n", "no plain YAML"),
        (b"flavors: !!python/name:os.getcwd\n", "no plain YAML"),
        (b"flavors: !!python/object/apply:collections.OrderedDict []\n", "no plain YAML"),
        (b"a: &a [*a]\n", "no plain YAML"),
        (b"a: " + b"[" * 5000, "no plain YAML"),
        (LAUGHS.encode(), "no plain YAML"),
        (b"a: 2026-99-99\n", "no plain YAML"),
        (b"a: !!bool x\n", "no plain YAML"),
        (b"a: !!int ''\n", "no plain YAML"),
        (b"a: !!float x\n", "no plain YAML"),
        (b"a: !!timestamp x\n", "no plain YAML"),
        (b"a: 1" + b":1" * 200_000 + b"\n", "a number of 400001 characters"),
        (b"a: 1" + b":1" * 200_000 + b".5\n", "a number of 400003 characters"),
        (b"#" * 2**20 + b"\n", "bytes"),
    ],
)
def test_what_is_no_mlmodel_file_is_told(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "MLmodel").write_bytes(content)
    with pytest.raises(RegistryError, match=said) as error:
        read_mlmodel(tmp_path, "model digits/1", tuple)
    assert "\n" not in str(error.value)
    assert not error.value.transient


def test_an_empty_mlmodel_file_is_told_where_versions_are_found(store: Store, name: str) -> None:
    (store.log(name) / "MLmodel").write_bytes(b"")
    with pytest.raises(RegistryError, match="expected a mapping") as error:
        store.registry.resolve(name, "1")
    assert not error.value.transient


def test_values_that_are_the_same_object_are_no_harm(store: Store, name: str) -> None:
    half = [0.5, 0.5, 0.5]
    folder = store.log(name, metadata={"attrail": {"mean": half, "std": half}})
    assert "*id001" in (folder / "MLmodel").read_text()
    assert store.registry.resolve(name, "1").facts == {"mean": half, "std": half}


@pytest.mark.parametrize("where", ["pipe", "data/pipe", "conda.yaml"])
def test_a_pipe_in_the_store_is_not_read(store: Store, name: str, where: str) -> None:
    folder = store.log(name)
    version = store.registry.resolve(name, "1")
    (folder / where).unlink(missing_ok=True)
    os.mkfifo(folder / where)
    for ask in (store.registry.load, store.registry.require_loadable):
        with pytest.raises(RegistryError, match=f"{where}.*no plain file") as error:
            ask(version)
        assert not error.value.transient
    with pytest.raises(RegistryError, match="no plain file"):
        store.registry.resolve(name, "1")


@pytest.mark.parametrize("target", ["data/model.pt2", "MLmodel", "requirements.txt"])
def test_links_in_the_store_are_not_followed(store: Store, name: str, tmp_path: Path, target: str) -> None:
    folder = store.log(name)
    version = store.registry.resolve(name, "1")
    shutil.move(folder / target, tmp_path / "elsewhere")
    (folder / target).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RegistryError, match="no plain file"):
        store.registry.load(version)


def test_a_logged_model_is_found_by_its_id(store: Store, name: str) -> None:
    store.log(name)
    source = store.registry.resolve(name, "1").source
    assert source.startswith("models:/m-")
    assert store.registry.resolve("another", source).uri == f"models:/{name}/1"
    mlflow.register_model(source, f"{name}-again")
    with pytest.raises(RegistryError, match=re.escape(f"models:/{name}-again/1, models:/{name}/1: write which one")):
        store.registry.resolve(name, source)


def test_a_logged_model_that_nobody_registered_is_told(store: Store, name: str) -> None:
    info = mlflow.pytorch.log_model(Net().eval(), name="model", input_example=EXAMPLE, pip_requirements=["torch"])
    for model_id in (info.model_id, "m-" + "0" * 32):
        with pytest.raises(RegistryError, match=r"no version of a registered model.*register it first") as error:
            store.registry.resolve(name, f"models:/{model_id}")
        assert not error.value.transient
