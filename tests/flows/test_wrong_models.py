"""Versions that are no image classifier, or none that can be read: each is refused in one sentence, soon.

They go through what ``attrail explain`` does, in this process: the preflight, and then everything behind it.
"""

import json
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import mlflow
import numpy as np
import onnx
import pandas as pd
import pytest
import torch
import transformers
import yaml
from onnx import TensorProto, helper
from PIL import Image
from torch import nn

from attrail_explainers.errors import AttrailError
from attrail_flows.configuration import AuditConfig, read_config
from attrail_flows.inputs.preflight import preflight_version
from attrail_flows.one_version.explain import explain_to_folder

SIDE = 16
SECONDS = 15  # of this process, in which every sentence must have come
EXAMPLE = torch.zeros(2, 3, SIDE, SIDE)
CONFIG = """
[registry]
tracking_uri = "{uri}"
model = "wrong"

[[slice]]
name = "noise"
source = "slice.csv"

[preprocessing]
size = [16, 16]
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]

[[explainer]]
name = "saliency"
"""
Made = Callable[["Place", Path], None]  # fills a folder with a model, as its library or MLflow would


class Place:
    """A store with one model, a slice, and of each flavour a sound model in a folder, written once by MLflow."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.client = folder, mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
        drawn = np.random.default_rng(0)
        for row in range(2):
            Image.fromarray(drawn.integers(0, 256, (SIDE, SIDE, 3), np.uint8)).save(folder / f"{row}.png")
        pd.DataFrame({"image": ["0.png", "1.png"], "label": [0, 1]}).to_csv(folder / "slice.csv", index=False)
        (folder / "attrail.toml").write_text(CONFIG.format(uri=f"sqlite:///{folder / 'mlflow.db'}"))
        self.client.create_registered_model("wrong")

    @property
    def config(self) -> AuditConfig:
        return read_config(self.folder / "attrail.toml")

    def base(self, flavour: str) -> Path:
        folder = self.folder / "bases" / flavour
        if not folder.exists():
            WRITTEN[flavour](folder)
        return folder

    def register(self, folder: Path) -> str:
        return str(self.client.create_model_version("wrong", str(folder)).version)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("wrong"))


def net(outputs: int = 3, channels: int = 3) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, outputs)).eval()


def write_pt2(folder: Path) -> None:
    mlflow.pytorch.save_model(net(), str(folder), input_example=EXAMPLE.numpy(), pip_requirements=["torch"])


def write_pickle(folder: Path) -> None:
    mlflow.pytorch.save_model(net(), str(folder), serialization_format="pickle", pip_requirements=["torch"])


def write_onnx(folder: Path) -> None:
    mlflow.onnx.save_model(graph([images()], [numbers()]), str(folder), pip_requirements=["onnx"])


def write_keras(folder: Path) -> None:
    layers = [keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *layers])
    mlflow.keras.save_model(model, str(folder), pip_requirements=["keras"])


def write_transformers(folder: Path) -> None:
    small: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = transformers.ViTConfig(**small, intermediate_size=8, image_size=SIDE, patch_size=8, num_labels=3)
    processor = transformers.ViTImageProcessor(size={"height": SIDE, "width": SIDE})
    whole = {"model": transformers.ViTForImageClassification(config), "image_processor": processor}
    mlflow.transformers.save_model(whole, str(folder), task="image-classification", pip_requirements=["transformers"])


WRITTEN = {
    **{"pt2": write_pt2, "pickle": write_pickle, "onnx": write_onnx},
    **{"keras": write_keras, "transformers": write_transformers},
}


# PyTorch


def program(module: nn.Module, *examples: torch.Tensor) -> Made:
    """A sound folder with another program in it, and nothing in its MLmodel that could tell."""

    def make(place: Place, folder: Path) -> None:
        copied("pt2", without_signature)(place, folder)
        torch.export.save(torch.export.export(module, examples or (EXAMPLE,)), folder / "data" / "model.pt2")

    return make


def copied(flavour: str, change: Callable[[Path], object]) -> Made:
    def make(place: Place, folder: Path) -> None:
        shutil.copytree(place.base(flavour), folder)
        change(folder)

    return make


def mlmodel(folder: Path, change: Callable[[Any], object]) -> None:
    document = yaml.safe_load((folder / "MLmodel").read_text())
    change(document)
    (folder / "MLmodel").write_text(yaml.safe_dump(document))


def without_signature(folder: Path) -> None:
    mlmodel(folder, lambda document: document.pop("signature", None))


class Computing(nn.Module):
    """A module that does something to images, or to the logits of one."""

    def __init__(self, compute: Callable[..., Any], body: nn.Module | None = None) -> None:
        super().__init__()
        self.compute, self.body = compute, body

    def forward(self, images: torch.Tensor) -> Any:
        return self.compute(images if self.body is None else self.body(images))


class OfTwo(nn.Module):
    def forward(self, images: torch.Tensor, ages: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) + ages


def broken(value: float) -> nn.Module:
    module = net()
    module[3].bias.data.fill_(value)
    return module


def in_training(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), *layers, nn.Flatten(), nn.Linear(4 * 14 * 14, 3)).train()


def member(content: bytes) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        with zipfile.ZipFile(folder / "data" / "model.pt2", "a") as archive:
            archive.writestr("model/extra/own.txt", content)

    return change


def shortened(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-200])


def script(folder: Path) -> None:
    (folder / "data" / "model.pt2").unlink()
    torch.jit.save(torch.jit.trace(net(), EXAMPLE), folder / "data" / "model.pth")  # type: ignore[no-untyped-call]


PYTORCH: dict[str, tuple[Made, str]] = {
    "two inputs": (program(OfTwo(), EXAMPLE, torch.zeros(2, 3)), r"expected one image input \(N,C,H,W\), got inputs"),
    "text tokens": (program(nn.Embedding(9, 3), torch.zeros(2, 7, dtype=torch.int64)), r"of shape \[\(2, 7\)\]"),
    "video": (program(nn.Flatten(), torch.zeros(2, 3, 4, SIDE, SIDE)), r"inputs of shape \[\(2, 3, 4, 16, 16\)\]"),
    "table rows": (program(nn.Linear(9, 3), torch.zeros(2, 9)), r"inputs of shape \[\(2, 9\)\]"),
    "int64 images": (
        program(Computing(lambda images: images.float().mean(dim=(2, 3))), EXAMPLE.long()),
        "was logged for int64 images, .* or the pixels themselves as uint8",
    ),
    "int16 images": (
        program(Computing(lambda images: images.float().mean(dim=(2, 3))), EXAMPLE.short()),
        "was logged for int16 images",
    ),
    "two outputs": (
        program(Computing(lambda logits: (logits, logits * 2), net())),
        r"several things that could be meant, '0' \(2, 3\), '1' \(2, 3\): say which by output",
    ),
    "complex outputs": (program(Computing(torch.fft.fft, net())), r"expected logits .* got \(2, 3\) of complex64"),
    "whole numbers": (program(Computing(lambda logits: logits.argmax(dim=1), net())), r"expected logits .* of int64"),
    "maps of classes": (program(nn.Conv2d(3, 4, 1)), r"expected logits \(N,classes\) for"),
    "one number for all": (program(Computing(torch.sum, net())), "expected logits"),
    "no classes": (program(Computing(lambda logits: logits[:, :0], net())), "expected logits"),
    "NaN weights": (program(broken(float("nan"))), "returns NaN or infinite outputs for image .*: check its weights"),
    "infinite outputs": (
        program(broken(float("inf"))),
        "returns NaN or infinite outputs for image .*: check its weights",
    ),
    "several sigmoids": (program(nn.Sequential(net(), nn.Sigmoid())), "multi_label"),
    "dropout always on": (program(in_training(nn.Dropout())), r"holds dropout in training mode; call model\.eval\(\)"),
    "batch statistics": (program(in_training(nn.BatchNorm2d(4))), "batch_norm in training mode"),
    "random numbers": (program(Computing(lambda logits: logits + torch.rand_like(logits), net())), "random numbers"),
    "channels last": (
        program(Computing(lambda images: images.permute(0, 3, 1, 2).mean(dim=(2, 3))), torch.zeros(2, SIDE, SIDE, 3)),
        r"cannot take images of shape \(\d, 3, 16, 16\)",
    ),
    "grey images": (program(net(channels=1), torch.zeros(2, 1, SIDE, SIDE)), r"cannot take images of shape"),
    "other sizes": (program(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)), torch.zeros(2, 3, 8, 8)), "cannot take"),
    "other sizes by the signature": (
        copied("pt2", lambda folder: mlmodel(folder, resized)),
        r"gives images of shape \(C,H,W\) = \(3, 16, 16\), wrong/\d+ was logged for \(3, 8, 8\)",
    ),
    "no pt2 archive": (copied("pt2", lambda folder: (folder / "data/model.pt2").write_bytes(b"pt2")), "model.pt2"),
    "half an archive": (copied("pt2", shortened("data/model.pt2")), r"archive model\.pt2 is damaged, or none that"),
    "more in the archive": (copied("pt2", member(b"more")), r"extra"),
    "TorchScript": (copied("pt2", script), r"is pickled, and loading it could run any code: `attrail convert"),
    "a pickle": (copied("pickle", lambda folder: None), r"`attrail convert models:/wrong/\d+` makes an exported"),
    "weights alone": (
        copied("pt2", lambda folder: torch.save({"a": EXAMPLE}, folder / "data" / "weights.pth")),
        r"has the file 'data/weights\.pth', which no exported model needs",
    ),
}


def resized(document: Any) -> None:
    document["signature"]["inputs"] = document["signature"]["inputs"].replace("16, 16", "8, 8")


# ONNX


def images(*shape: int | str, kind: int = TensorProto.FLOAT, name: str = "images") -> Any:
    return helper.make_tensor_value_info(name, kind, shape or ("N", 3, SIDE, SIDE))


def numbers() -> Any:
    return helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("N", 3))


def graph(inputs: list[Any], outputs: list[Any], *nodes: Any, domain: str = "", opset: int = 17) -> onnx.ModelProto:
    """The mean of each channel, unless there are other ``nodes``."""
    mean = helper.make_node("ReduceMean", [inputs[0].name], ["logits"], axes=[2, 3], keepdims=0)
    made = helper.make_graph(list(nodes) or [mean], "graph", inputs, outputs)
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(made, opset_imports=opsets, ir_version=8)


def as_onnx(model: Callable[[], onnx.ModelProto]) -> Made:
    return copied("onnx", lambda folder: (folder / "model.onnx").write_bytes(model().SerializeToString()))


def node(kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> Any:
    return helper.make_node(kind, inputs, outputs, **attributes)


def sequence() -> onnx.ModelProto:
    made = helper.make_tensor_sequence_value_info("logits", TensorProto.FLOAT, None)
    return graph([images()], [made], node("SequenceConstruct", ["images"], ["logits"]))


def beside(folder: Path) -> None:
    """As a graph that was copied without its tensors."""
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3, 3], np.eye(3, dtype=np.float32).tobytes(), raw=True)
    model = graph(
        [images()],
        [numbers()],
        node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        node("MatMul", ["means", "weight"], ["logits"]),
    )
    model.graph.initializer.append(weight)
    name = "weights.data"
    onnx.save(model, folder / "model.onnx", save_as_external_data=True, location=name, size_threshold=0)
    (folder / name).unlink()


def undefined() -> onnx.ModelProto:
    """The logarithm of a negative number."""
    squared = node("Mul", ["images", "images"], ["squares"])
    steps = [squared, node("Neg", ["squares"], ["less"]), node("Log", ["less"], ["logs"])]
    mean = node("ReduceMean", ["logs"], ["logits"], axes=[2, 3], keepdims=0)
    return graph([images()], [numbers()], *steps, mean)


def foreign() -> onnx.ModelProto:
    return graph([images()], [numbers()], node("Own", ["images"], ["logits"], domain="own.ops"), domain="own.ops")


def tokens() -> onnx.ModelProto:
    cast = node("Cast", ["images"], ["logits"], to=TensorProto.FLOAT)
    return graph([images("N", 7, kind=TensorProto.INT64)], [numbers()], cast)


ONNX: dict[str, tuple[Made, str]] = {
    "a sequence": (as_onnx(sequence), "sequence|expected logits"),
    "no tensors beside the graph": (copied("onnx", beside), r"lacks the file weights\.data, which model\.onnx names"),
    "tokens, ONNX": (as_onnx(tokens), r"expected one input of images .*, its graph takes images tensor\(int64\)"),
    "two inputs, ONNX": (
        as_onnx(lambda: graph([images(), images(name="other")], [numbers()])),
        r"expected one input of images .* takes images .* other tensor\(float\)",
    ),
    "text, ONNX": (
        as_onnx(
            lambda: graph(
                [images("N", 1, 1, 1, kind=TensorProto.STRING)],
                [helper.make_tensor_value_info("logits", TensorProto.STRING, ("N", 1, 1, 1))],
                node("Identity", ["images"], ["logits"]),
            )
        ),
        r"its graph takes images tensor\(string\)",
    ),
    "uint16, ONNX": (
        as_onnx(
            lambda: graph(
                [images(kind=TensorProto.UINT16)],
                [numbers()],
                node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
                node("ReduceMean", ["floats"], ["logits"], axes=[2, 3], keepdims=0),
            )
        ),
        r"its graph takes images tensor\(uint16\)",
    ),
    "video, ONNX": (as_onnx(lambda: graph([images("N", 3, 4, 8, 8)], [numbers()])), r"takes images tensor\(float\)"),
    "an operator of somebody's own": (
        as_onnx(foreign),
        r"operators that come with a library of its own: own\.ops\.Own",
    ),
    "an opset of the future": (as_onnx(lambda: graph([images()], [numbers()], opset=999)), "cannot be"),
    "NaN, ONNX": (as_onnx(undefined), "returns NaN or infinite outputs for image"),
    "half a graph": (copied("onnx", shortened("model.onnx")), "model.onnx"),
    "no graph": (copied("onnx", lambda folder: (folder / "model.onnx").write_bytes(b"graph")), "model.onnx"),
    "maps of classes, ONNX": (
        as_onnx(
            lambda: graph(
                [images()],
                [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ("N", 3, SIDE, SIDE))],
                node("Relu", ["images"], ["logits"]),
            )
        ),
        "expected logits",
    ),
}


# Keras, transformers


def keras_config(change: Callable[[Any], object]) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        path = folder / "data" / "model.keras"
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        config = json.loads(contents["config.json"])
        change(config)
        contents["config.json"] = json.dumps(config).encode()
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)

    return changed


def keras_model(build: Callable[[], Any]) -> Made:
    return copied("keras", lambda folder: build().save(folder / "data" / "model.keras"))


def two_inputs() -> Any:
    first, second = keras.Input((SIDE, SIDE, 3)), keras.Input((SIDE, SIDE, 3))
    return keras.Model([first, second], keras.layers.Flatten()(keras.layers.Add()([first, second])))


def legacy(folder: Path) -> None:
    (folder / "data" / "model.keras").rename(folder / "data" / "model.h5")


def settings(**keys: Any) -> Made:
    """transformers' configuration with other keys."""

    def change(folder: Path) -> None:
        path = folder / "model" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | keys))

    return copied("transformers", change)


KERAS: dict[str, tuple[Made, str]] = {
    "a Lambda": (
        copied("keras", keras_config(lambda config: config["config"]["layers"][1].update(class_name="Lambda"))),
        r"has parts that are not Keras' own, .*: keras\.layers\.Lambda; build it",
    ),
    "a class of somebody's own": (
        copied("keras", keras_config(lambda config: config["config"]["layers"][1].update(module="own.layers"))),
        r"has parts that are not Keras' own, .*own\.layers\.Rescaling",
    ),
    "HDF5": (copied("keras", legacy), r"has the file 'data/model\.h5', which no exported model needs"),
    "two inputs, Keras": (keras_model(two_inputs), "expected one input of images"),
    "rows of a table, Keras": (
        keras_model(lambda: keras.Sequential([keras.Input((9,)), keras.layers.Dense(3)])),
        r"expected one input of images, its input is \(None, 9\)",
    ),
    "half an archive, Keras": (copied("keras", shortened("data/model.keras")), "keras"),
}
TRANSFORMERS: dict[str, tuple[Made, str]] = {
    "text": (settings(architectures=["BertForSequenceClassification"], model_type="bert"), "takes input_ids"),
    "sound": (
        settings(architectures=["Wav2Vec2ForSequenceClassification"], model_type="wav2vec2"),
        "takes input_values",
    ),
    "a class that there is none of": (settings(architectures=["OwnForImages"]), "OwnForImages"),
    "code of its own": (settings(auto_map={"AutoModel": "own.Model"}), "has auto_map in its config.json"),
    "quantized": (settings(quantization_config={"bits": 4}), "has quantization_config in its config.json"),
    "another class's weights": (
        settings(architectures=["ConvNextForImageClassification"]),
        "has another shape of|lacks .*, which does not fit a ConvNextForImageClassification",
    ),
    "no weights": (
        copied("transformers", lambda folder: (folder / "model" / "model.safetensors").unlink()),
        r"lacks the file model/model\.safetensors",
    ),
    "pickled weights": (
        copied("transformers", lambda folder: (folder / "model" / "pytorch_model.bin").write_bytes(b"")),
        r"has the file 'model/pytorch_model\.bin', which no exported model needs",
    ),
    "half the weights": (copied("transformers", shortened("model/model.safetensors")), "log it again|cannot be read"),
}


# What MLflow keeps that is none of these


def described(**flavors: Any) -> Made:
    """An MLmodel file as MLflow writes it for libraries that need not be here."""

    def make(place: Place, folder: Path) -> None:
        folder.mkdir()
        (folder / "MLmodel").write_text(yaml.safe_dump({"flavors": flavors, "mlflow_version": "3.17.2"}))

    return make


def loaded_by(name: str, **section: Any) -> dict[str, Any]:
    return {"loader_module": f"mlflow.{name}", "python_version": "3.11.7", "data": "data"} | section


def of_library(name: str, **section: Any) -> tuple[Made, str]:
    """Of a library that attrail has no flavour for."""
    made = described(**{name: {"data": "data"} | section}, python_function=loaded_by(name))
    return made, rf"was not logged with MLflow's .* flavour, its flavors are .*{name}"


OTHERS: dict[str, tuple[Made, str]] = {
    **{each: of_library(each) for each in ("sklearn", "xgboost", "spark", "fastai", "tensorflow", "lightgbm", "spacy")},
    "code of its own, PyTorch": (
        copied("pt2", lambda folder: mlmodel(folder, lambda each: each["flavors"]["pytorch"].update(code="code"))),
        r"brings code of its own \(pytorch\.code\), which is never run here",
    ),
    "a loader of somebody's own": (
        described(python_function={"loader_module": "own_loader", "data": "data"}),
        "was not logged with MLflow's",
    ),
    "somebody's own code around nothing": (
        described(python_function={"loader_module": "mlflow.pyfunc.model", "python_model": "python_model.pkl"}),
        "is a python_function of its own code, which is never run here, around nothing that was logged",
    ),
    "two libraries": (described(onnx={"data": "a"}, keras={"data": "b"}), "has several flavours of models"),
    "no MLmodel": (lambda place, folder: folder.mkdir(), "has no MLmodel file, so it is no MLflow model"),
    "an empty MLmodel": (copied("pt2", lambda folder: (folder / "MLmodel").write_bytes(b"")), "NoneType"),
}
KINDS = PYTORCH | ONNX | KERAS | TRANSFORMERS | OTHERS


def test_there_are_forty_and_more() -> None:
    assert len(KINDS) >= 40
    assert len(KINDS) == sum(map(len, (PYTORCH, ONNX, KERAS, TRANSFORMERS, OTHERS)))


def explained(config: AuditConfig, number: str, folder: Path) -> None:
    preflight_version(config, number)
    explain_to_folder(config, number, "noise", "saliency", folder)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_refused_in_one_true_sentence(kind: str, place: Place, tmp_path: Path) -> None:
    make, told = KINDS[kind]
    make(place, tmp_path / "model")
    number, config = place.register(tmp_path / "model"), place.config
    started = time.process_time()
    with pytest.raises(AttrailError, match=told) as error:
        explained(config, number, tmp_path)
    said = str(error.value)
    assert time.process_time() - started <= SECONDS
    assert "\n" not in said
    assert f"wrong/{number}" in said
    assert not {"Traceback", "NoneType' object", "Error("} & set(said.split())
