"""One network in three flavours: EfficientNet-lite0 with ImageNet weights in torch, its ONNX export and a Keras twin.

Each is logged to a real MLflow server as its own users log it, and audited over HTTP against the torch one as the same
function; then maps and the processor time of an evaluation are measured, each in one thread, taking turns. Writes a
section of ``explainers/FAMILIES.md``.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import keras
import mlflow
import numpy as np
import onnx
import pandas as pd
import torch
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec
from PIL import Image
from real import CARRIED, SHARED, lite0

sys.path.append(str(Path(__file__).parents[1] / "explainers"))
from families_page import PAGE, with_section

from attrail_explainers.errors import ExplanationError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.images import decode, timm_preprocessing
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.slice import Slice
from attrail_mlflow import log_classifier
from attrail_mlflow.registry.registry import Registry

HEADING = "One network in three flavours"
COMMAND = "tests/bench/twins.py"
NAMES = {"1": "pytorch (pt2)", "2": "onnx", "3": "keras"}
IMAGES, EVALUATIONS, TURNS = 16, 40, 3
COMPARED = 4  # images whose maps are held against each other here
EXPLAINERS: Mapping[str, Mapping[str, Any]] = {
    "gradcam": {},
    "integrated_gradients": {"steps": 8},
    "shap": {"evaluations": EVALUATIONS, "segments": 8},
}
CONFIG = """
[registry]
tracking_uri = "{uri}"
model = "lite0"
reference = "1"
candidate = "{candidate}"
change = "same-function"

[[slice]]
name = "photographs"
source = "slice.csv"

[[explainer]]
name = "shap"
evaluations = {evaluations}
segments = 8

[[explainer]]
name = "integrated_gradients"
steps = 8

[policy]
resamples = 200
"""
Layer = Any  # Keras has no types


def keras_twin(model: Any) -> Layer:
    """timm's tf_efficientnet_lite0, layer by layer: TensorFlow's padding is Keras' own."""
    keras.config.set_image_data_format("channels_last")
    images = keras.Input((224, 224, 3))
    found = _normalised(_convolved(images, model.conv_stem, "stem"), model.bn1, "stem")
    for stage, blocks in enumerate(model.blocks):
        for place, block in enumerate(blocks):
            found = _block(found, block, f"block{stage}{place}")
    found = _normalised(_convolved(found, model.conv_head, "head"), model.bn2, "head")
    found = keras.layers.GlobalAveragePooling2D()(found)
    dense = keras.layers.Dense(model.classifier.out_features, name="classifier")
    outputs = dense(found)
    dense.set_weights([_array(model.classifier.weight).T, _array(model.classifier.bias)])
    return keras.Model(images, outputs)


def _block(found: Layer, block: Any, name: str) -> Layer:
    before = found
    steps = [("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")]
    if not hasattr(block, "conv_pwl"):
        steps = [("conv_dw", "bn1"), ("conv_pw", "bn2")]
    for convolution, norm in steps:
        found = _convolved(found, getattr(block, convolution), f"{name}_{convolution}")
        found = _normalised(found, getattr(block, norm), f"{name}_{norm}")
    return keras.layers.Add(name=f"{name}_add")([before, found]) if block.has_skip else found


def _convolved(found: Layer, convolution: Any, name: str) -> Layer:
    each_alone = convolution.groups > 1
    settings = {"strides": convolution.stride[0], "padding": "same", "use_bias": False, "name": name}
    size = convolution.kernel_size[0]
    layer = (
        keras.layers.DepthwiseConv2D(size, **settings)
        if each_alone
        else keras.layers.Conv2D(convolution.out_channels, size, **settings)
    )
    outputs = layer(found)
    layer.set_weights([_array(convolution.weight).transpose((2, 3, 0, 1) if each_alone else (2, 3, 1, 0))])
    return outputs


def _normalised(found: Layer, norm: Any, name: str) -> Layer:
    layer = keras.layers.BatchNormalization(epsilon=norm.eps, name=f"{name}_norm")
    outputs = layer(found)
    layer.set_weights([_array(each) for each in (norm.weight, norm.bias, norm.running_mean, norm.running_var)])
    active = not isinstance(norm.act, torch.nn.Identity)
    return keras.layers.ReLU(max_value=6.0, name=f"{name}_relu")(outputs) if active else outputs


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy()


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A real ``mlflow server`` of this machine's own, in a process group of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | quiet, stdout=log, stderr=log, start_new_session=True)
    try:
        while not _answers(f"{address}/health"):
            if process.poll() is not None:
                raise SystemExit((folder / "server.log").read_text())
            time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def _answers(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(address, timeout=2).read())
    except OSError:
        return False


def log_all(model: torch.nn.Module, folder: Path) -> None:
    """The three versions, logged as users of each library do."""
    mlflow.set_experiment("attrail")
    log_classifier(model, "lite0", torch.zeros(2, 3, 224, 224), timm_preprocessing("tf_efficientnet_lite0"))
    free = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        model, (torch.zeros(2, 3, 224, 224),), dynamo=True, dynamic_shapes=free, input_names=["images"], verbose=False
    )
    program.save(folder / "lite0.onnx")
    more = {"name": "model", "registered_model_name": "lite0"}
    mlflow.onnx.log_model(onnx.load(folder / "lite0.onnx"), pip_requirements=["onnx"], **more)
    shape = ModelSignature(Schema([TensorSpec(np.dtype(np.float32), (-1, 224, 224, 3))]))
    mlflow.keras.log_model(keras_twin(model), signature=shape, pip_requirements=["keras"], **more)


def write_slice(folder: Path) -> None:
    """Photographs, whose labels are written once the torch version said which class it sees."""
    (folder / "pictures").mkdir()
    if SHARED.exists():
        listed = pd.read_csv(SHARED / "imagenet.csv")["image"]
        for place in np.linspace(3, len(listed) - 1, IMAGES).astype(int):
            shutil.copy(SHARED / listed[place], folder / "pictures" / f"{place:04d}.jpeg")
    else:
        for place in range(IMAGES):
            pixels = np.roll(CARRIED[place % len(CARRIED)](), 8 * place, axis=1)
            Image.fromarray(pixels).save(folder / "pictures" / f"{place:04d}.png")


def audited(folder: Path, uri: str, candidate: str) -> dict[str, Any]:
    """The record of a real audit, by the command, of a version against the torch one."""
    config = folder / "attrail.toml"
    config.write_text(CONFIG.format(uri=uri, candidate=candidate, evaluations=EVALUATIONS))
    command = [sys.executable, "-c", "from attrail_flows.cli import main; main()", "audit", "--config", str(config)]
    home = os.environ | {"PREFECT_HOME": str(folder / "prefect"), "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--json", str(folder / "record.json")], env=home, capture_output=True, text=True, check=False
    )
    if not (folder / "record.json").exists():
        raise SystemExit(done.stdout + done.stderr)
    found: dict[str, Any] = json.loads((folder / "record.json").read_text())
    return found


@dataclass(frozen=True)
class Row:
    """What a flavour is against torch: its audit's verdict, differences of maps, milliseconds of one evaluation."""

    verdict: str
    apart: Mapping[str, str]
    batch: int
    milliseconds: float


def milliseconds(classifiers: Mapping[str, Classifier], images: np.ndarray) -> dict[str, float]:
    """Processor time of one evaluation of each, at the batch that it is run in; the fastest of some turns."""
    best = dict.fromkeys(classifiers, float("inf"))
    for _ in range(TURNS):
        for name, classifier in classifiers.items():
            model = classifier.working_copy(images)
            batch = torch.from_numpy(np.resize(images, (model.batch, *images.shape[1:])))
            with torch.inference_mode():
                model.call(batch)
                started = time.process_time()
                model.call(batch)
                best[name] = min(best[name], (time.process_time() - started) / model.batch * 1000)
    return best


def measured(folder: Path) -> dict[str, Row]:
    model = lite0()
    write_slice(folder)
    pictures = sorted((folder / "pictures").iterdir())
    preprocessing = timm_preprocessing("tf_efficientnet_lite0")
    images = decode(pictures, preprocessing)
    with torch.inference_mode():
        classes = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    rows = {"image": [f"pictures/{each.name}" for each in pictures], "label": classes}
    pd.DataFrame(rows).to_csv(folder / "slice.csv", index=False)
    with server(folder) as uri:
        mlflow.set_tracking_uri(uri)
        log_all(model, folder)
        verdicts = {each: audited(folder, uri, each)["verdict"] for each in NAMES if each != "1"}
        return compared(Registry(uri), verdicts, images, classes)


def maps_of(classifier: Classifier, slice_: Slice) -> dict[str, np.ndarray | None]:
    """Maps by explainer, None for one that gives none, as where the layer it takes shows nothing for the classes."""
    found: dict[str, np.ndarray | None] = {}
    for name, parameters in EXPLAINERS.items():
        try:
            (maps,) = explain_slice(classifier, slice_, [make_explainer(name, parameters)], slice_.labels, 0)
        except ExplanationError as error:
            print(error, file=sys.stderr)
            found[name] = None
        else:
            found[name] = maps.values
    return found


def apart(one: np.ndarray | None, other: np.ndarray | None) -> str:
    """The greatest difference as a share of the largest value, in words."""
    if one is None or other is None:
        return "no map"
    return f"{float(np.nanmax(np.abs(other - one)) / np.nanmax(np.abs(one))):.1e}"


def compared(
    registry: Registry, verdicts: Mapping[str, str], images: np.ndarray, classes: np.ndarray
) -> dict[str, Row]:
    """Every version's row, by maps and times that are computed here."""
    loaded = {each: registry.load(registry.resolve("lite0", each)) for each in NAMES}
    some = slice(0, COMPARED)
    slice_ = Slice("photographs", images[some], classes[some], tuple(f"{each}" for each in range(COMPARED)))
    maps = {each: maps_of(classifier, slice_) for each, classifier in loaded.items()}
    spent = milliseconds(loaded, images)
    return {
        each: Row(
            verdicts.get(each, ""),
            {name: apart(maps["1"][name], maps[each][name]) for name in EXPLAINERS},
            loaded[each].working_copy(images).batch,
            spent[each],
        )
        for each in NAMES
    }


def written(rows: Mapping[str, Row]) -> str:
    packages = ("torch", "onnxruntime", "onnx2fx", "keras", "mlflow")
    head = ["flavour", "`same-function` audit", *(f"{each}, apart" for each in EXPLAINERS)]
    head += ["batch", "ms an evaluation", "times torch's"]
    lines = [
        f"Written by `{COMMAND}` with {', '.join(f'{each} {version_of(each)}' for each in packages)}:",
        "EfficientNet-lite0 with ImageNet weights, its ONNX export and a Keras model built layer by layer, audited",
        f"over HTTP on {IMAGES} photographs (integrated gradients, SHAP with {EVALUATIONS} evaluations). Maps of",
        f"{COMPARED} of them: the greatest difference from torch's, as a share of their largest value. Processor time",
        f"of one thread, the fastest of {TURNS} turns: read ratios.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for each, row in rows.items():
        differences = [found if row.verdict else "" for found in row.apart.values()]
        cells = [NAMES[each], row.verdict, *differences, str(row.batch), f"{row.milliseconds:.1f}"]
        lines.append("| " + " | ".join([*cells, f"{row.milliseconds / rows['1'].milliseconds:.2f}"]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and write the section."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="attrail-twins-") as folder:
        rows = measured(Path(folder))
    PAGE.write_text(with_section(PAGE.read_text(encoding="utf-8"), HEADING, written(rows)), encoding="utf-8")


if __name__ == "__main__":
    main()
