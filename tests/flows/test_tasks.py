"""Models that do not choose one class of several, from MLflow's registry: explained and compared, or refused."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from attrail_explainers import load_attributions
from attrail_explainers.errors import ConfigError, SliceError
from attrail_explainers.model.task import make_task
from attrail_explainers.model.trained_module import require_outputs
from attrail_flows.configuration import read_config
from attrail_flows.engine.serial_engine import explaining_in_turn
from attrail_flows.inputs.preflight import preflight_version
from attrail_flows.inputs.slices import read_slices
from attrail_mlflow import log_classifier
from attrail_mlflow.registry.registry import Registry
from attrail_monitoring.verdict.decision_measurement import compared

Run = Callable[..., tuple[int, str, str]]

SIDE, IMAGES = 24, 10
NAMES = ("red", "green", "blue")
HALVES = {"size": (SIDE, SIDE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
CONFIG = """
[registry]
tracking_uri = "{uri}"
model = "{model}"
reference = "1"
candidate = "2"

[[slice]]
name = "colours"
source = "slice.csv"

[task]
{task}

[[explainer]]
name = "shap"
evaluations = 40
segments = 6
"""


class Net(nn.Module):
    def __init__(self, outputs: int, seed: int = 0, dropped: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3), nn.ReLU())
        self.head = nn.Linear(16, outputs)
        self.dropped = dropped

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.body(images).amax(dim=(2, 3))
        return self.head(nn.functional.dropout(found, 0.5, training=self.dropped))


class Two(nn.Module):
    """Logits beside features that could be logits as well, in a tuple."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.net.body(images).amax(dim=(2, 3))
        return found, self.net.head(found)


@dataclass(frozen=True)
class Place:
    folder: Path

    def config(self, model: str, task: str) -> Path:
        path = self.folder / f"{model}.toml"
        path.write_text(CONFIG.format(uri=f"sqlite:///{self.folder / 'mlflow.db'}", model=model, task=task))
        return path

    def explained(self, model: str, task: str, candidate: str = "2"):
        """Reference and candidate as an audit explains them, and what one decision statistic compares."""
        config = read_config(self.config(model, task))
        registry = Registry(config.registry.tracking_uri)
        first, second = (registry.resolve(model, each) for each in ("1", candidate))
        slices = read_slices(config, first)
        with explaining_in_turn(registry, config, self.folder) as session:
            reference = session.explain(first, slices, None, lambda images: None)
            return reference, session.explain(second, slices, reference, lambda images: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Pictures with up to three colours in them, and two versions of each kind of model, as log_model writes them."""
    folder = tmp_path_factory.mktemp("tasks")
    drawn = np.random.default_rng(0)
    rows = []
    for row in range(IMAGES):
        pixels, present = np.full((SIDE, SIDE, 3), 60, np.uint8), drawn.random(3) < 0.6
        for colour in np.flatnonzero(present):
            top, left = drawn.integers(0, SIDE - 8, 2)
            pixels[top : top + 8, left : left + 8, colour] = 240
        Image.fromarray(pixels + drawn.integers(0, 9, pixels.shape, np.uint8)).save(folder / f"{row}.png")
        labels = ";".join(name for name, there in zip(NAMES, present, strict=True) if there)
        rows.append((f"{row}.png", labels, float(present.sum()), int(present[0])))
    table = pd.DataFrame(rows, columns=["image", "labels", "value", "label"])
    table.to_csv(folder / "slice.csv", index=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("attrail", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("attrail")
    example = torch.zeros(2, 3, SIDE, SIDE)
    for model, modules in {
        "multi": [Net(3), nn.Sequential(Net(3), nn.Sigmoid()), Net(3, seed=5)],
        "one": [Net(1), Net(1, seed=5)],
        "two": [Two(Net(3)), Net(3)],
        "dropped": [Net(3, dropped=True)],
    }.items():
        for module in modules:
            log_classifier(module, model, example, HALVES, classes=NAMES if model in ("multi", "dropped") else ())
    mlflow.set_tracking_uri(before)
    return Place(folder)


def test_multi_label_has_a_map_for_each_label_and_a_sigmoid_is_no_change(place: Place) -> None:
    reference, candidate = place.explained("multi", 'name = "multi_label"')
    (maps,), (others,) = reference.maps, candidate.maps
    labels = pd.read_csv(place.folder / "slice.csv")["labels"].fillna("")
    expected = [f"{row}.png [{name}]" for row, cell in enumerate(labels) for name in cell.split(";") if name]
    assert sorted(maps.sample_ids) == sorted(expected)
    assert [NAMES[label] for label in maps.targets] == [each.partition("[")[2][:-1] for each in maps.sample_ids]
    assert maps.comparability == others.comparability
    assert np.nanmax(np.abs(maps.values - others.values)) <= 1e-4 * np.nanmax(np.abs(maps.values))
    assert reference.outputs == "logits of labels"
    pictured = [each.partition(" [")[0] for each in maps.sample_ids]
    assert reference.version_maps.images["colours"].tolist() == pictured
    assert reference.decisions["colours"].images.tolist() == pictured
    assert candidate.outputs == "probabilities of labels, taken before sigmoid, as logits"


def test_decisions_of_labels_flip(place: Place) -> None:
    reference, other = place.explained("multi", 'name = "multi_label"', candidate="3")
    logits, rows = other.logits["colours"], np.arange(len(other.maps[0].targets))
    there = logits[rows, other.maps[0].targets] >= 0
    assert (other.right["colours"] == there).all(), "a label that is there is right where it is found"
    found = {each.place.statistic: each for each in compared(reference.version_maps, other.version_maps, 1)}
    assert {"churn", "accuracy_loss", "calibration_error"} <= set(found)


def test_regression_decides_by_its_tolerance(place: Place) -> None:
    reference, candidate = place.explained("one", 'name = "regression"\ntolerance = 0.25')
    first, second = (each.logits["colours"][:, 0] for each in (reference, candidate))
    values = pd.read_csv(place.folder / "slice.csv")["value"]
    assert (reference.right["colours"] == (np.abs(first - values) <= 0.25)).all()
    same = reference.decisions["colours"].same(candidate.decisions["colours"])
    assert (same == (np.abs(first.astype(np.float64) - second) <= 0.25)).all()
    undecided, _ = place.explained("one", 'name = "regression"')
    assert not undecided.decisions
    assert not undecided.right
    assert undecided.outputs == "values"


def test_embeddings_are_compared_with_the_references_own(place: Place) -> None:
    reference, candidate = place.explained("multi", 'name = "embedding"', candidate="3")
    target = reference.targets["colours"]
    assert (target.values["query"] == reference.logits["colours"]).all()
    assert candidate.targets["colours"] is target
    assert reference.maps[0].comparability == candidate.maps[0].comparability
    assert reference.decisions["colours"].predictions.shape == (IMAGES,)


def test_binary_takes_the_sign_of_the_label(place: Place) -> None:
    reference, _ = place.explained("one", 'name = "binary"')
    assert reference.classes == 2
    assert (reference.right["colours"] == (reference.predictions["colours"] == reference.maps[0].targets)).all()


def test_one_of_several_outputs_is_named_once_for_all_versions(place: Place) -> None:
    """The second version returns the logits alone."""
    reference, candidate = place.explained("two", 'name = "single_label"\noutput = "1"')
    assert reference.outputs == "logits, in its output '1'"
    assert candidate.outputs == "logits"
    assert reference.maps[0].values.tobytes() == candidate.maps[0].values.tobytes()


def test_attrail_explain_writes_a_map_and_a_picture_for_each_label(attrail: Run, place: Place, tmp_path: Path) -> None:
    config = place.config("multi", 'name = "multi_label"\nask = ["blue"]')
    options = ("--config", config, "--slice", "colours", "--explainer", "shap", "--out", tmp_path / "out")
    status, printed, err = attrail("explain", "models:/multi/1", *options)
    assert status == 0, err
    maps = load_attributions(tmp_path / "out" / "maps.safetensors")
    assert f"{len(maps.sample_ids)} maps of shap for multi/1 on colours" in printed
    assert sum(each.endswith("[blue]") for each in maps.sample_ids) == IMAGES
    assert len(list((tmp_path / "out").glob("*.png"))) == len(maps.sample_ids)


def test_attrail_check_holds_the_maps_of_labels(attrail: Run, place: Place, tmp_path: Path) -> None:
    config = place.config("multi", 'name = "multi_label"')
    options = ("--config", config, "--slice", "colours", "--explainer", "shap", "--out", tmp_path)
    status, _, err = attrail("check", "models:/multi/1", *options, "--check", "deletion")
    assert status == 0, err
    document = json.loads((tmp_path / "checks.json").read_text())
    assert len(document["checks"]["deletion"]["values"]) == len(document["sample_ids"])


@pytest.mark.parametrize(
    ("model", "task", "reason"),
    [
        (
            "dropped",
            'name = "multi_label"',
            "its graph holds dropout in training mode; call model.eval() before",
        ),
        ("dropped", 'name = "single_label"', "its graph holds dropout in training mode; call model.eval() before"),
        (
            "two",
            'name = "single_label"',
            "several things that could be meant, '0' (2, 16), '1' (2, 3): say which",
        ),
        ("two", 'name = "single_label"\noutput = "logits"', "output 'logits' is nothing that model two/1 returns"),
        ("multi", 'name = "binary"', "returns 3 outputs, task binary is about one"),
        ("multi", 'name = "regression"', "returns 3 numbers for an image: say which one is meant by the task's column"),
        ("multi", 'name = "multi_label"\nask = ["violet"]', "has the label 'violet', which is no class index"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    attrail: Run, place: Place, tmp_path: Path, model: str, task: str, reason: str
) -> None:
    config = place.config(model, task)
    options = ("--config", config, "--slice", "colours", "--explainer", "shap", "--out", tmp_path)
    status, _, err = attrail("explain", f"models:/{model}/1", *options)
    assert status == 2
    assert reason in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        ('name = "multilabel"', "unknown task 'multilabel': known are binary, detection, embedding"),
        ('name = "multi_label"\nthreshold = 1', "threshold must lie between 0 and 1"),
        ('name = "multi_label"\ncolumns = "cat"', "columns must be a list of different names, not 'cat'"),
        ('name = "regression"\nunit = "m"', "task 'regression' has no parameter 'unit'"),
    ],
)
def test_a_wrong_task_is_refused_as_the_configuration_is_read(place: Place, task: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_config(place.config("multi", task))


def test_the_table_is_looked_at_before_any_model_is_loaded(place: Place) -> None:
    config = read_config(place.config("multi", 'name = "multi_label"\ncolumns = ["red", "green"]'))
    with pytest.raises(SliceError, match="lacks the column red with 1 where an image has that label"):
        preflight_version(config, "1")


def evaluated(place: Place, model: str, config: dict[str, object], table: pd.DataFrame, **more: object):
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{place.folder / 'mlflow.db'}")
    mlflow.set_experiment("attrail")
    try:
        source = mlflow.MlflowClient().get_model_version(model, "1").source.removeprefix("models:/")
        settings = {"explainers": [{"name": "saliency"}], "checks": ["random_head"], "seed": 0} | config
        told = {"model_type": "attrail-image", "evaluators": "attrail", "evaluator_config": settings} | more
        with mlflow.start_run():
            return mlflow.models.evaluate(data=table, model_id=source, **told)
    finally:
        mlflow.set_tracking_uri(before)


def test_mlflows_evaluate_asks_what_its_task_says(place: Place) -> None:
    table = pd.read_csv(place.folder / "slice.csv").head(4)
    paths = [str(place.folder / image) for image in table["image"]]
    rows = pd.DataFrame({"image_path": paths, "labels": table["labels"].fillna("")})
    found = evaluated(place, "multi", {"task": {"name": "multi_label"}}, rows, targets="labels")
    assert set(found.metrics) == {"accuracy", "saliency/random_head"}
    values = pd.DataFrame({"image_path": paths, "value": table["value"]})
    found = evaluated(place, "one", {"task": {"name": "regression"}}, values, targets="value")
    assert "saliency/random_head" in found.metrics
    for task, said in [("multi_label", "must be a table with a name"), ({"name": "segmentation"}, "`attrail check`")]:
        with pytest.raises(mlflow.exceptions.MlflowException, match=said):
            evaluated(place, "multi", {"task": task}, rows, targets="labels")


@pytest.mark.parametrize(
    ("outputs", "task", "classes"), [(1, "binary", 2), (1, "regression", 1), (3, "multi_label", 3)]
)
def test_what_a_recipe_trains_must_answer_as_the_task_has_it(outputs: int, task: str, classes: int) -> None:
    images, asked = np.zeros((2, 3, SIDE, SIDE), np.float32), make_task(task)
    require_outputs(Net(outputs), images, asked, classes, "m/1", "the model")
    require_outputs(Two(Net(outputs)), images, make_task(task, {"output": "1"}), classes, "m/1", "the model")
    with pytest.raises(
        ConfigError, match=rf"the model gives outputs of shape \(2, 7\) for 2 images, m/1 tells {classes}"
    ):
        require_outputs(Net(7), images, asked, classes, "m/1", "the model")
    with pytest.raises(
        ConfigError, match=r"the model does not answer as m/1 does: .* several things that could be meant"
    ):
        require_outputs(Two(Net(outputs)), images, asked, classes, "m/1", "the model")
