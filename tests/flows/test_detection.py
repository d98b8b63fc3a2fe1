"""Detectors from MLflow's registry: boxes of a table, of a COCO file, or that the reference finds; what is refused."""

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
from attrail_flows.configuration import read_config
from attrail_flows.engine.serial_engine import explaining_in_turn
from attrail_flows.inputs.slices import read_slices
from attrail_mlflow import log_classifier
from attrail_mlflow.registry.registry import Registry

Run = Callable[..., tuple[int, str, str]]

SIDE, IMAGES = 32, 6
NAMES = ("disc", "square", "bar")
HALVES = {"size": (SIDE, SIDE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
CONFIG = """
[registry]
tracking_uri = "{uri}"
model = "{model}"
reference = "1"

[[slice]]
name = "objects"
{slice}

[task]
name = "detection"
{task}

[[explainer]]
name = "shap"
evaluations = 40
segments = 6
"""
TABLE, BARE = 'source = "boxes.csv"', 'source = "bare.csv"'
COCO = BARE + '\ncoco = "instances.json"'
LOW = "threshold = 0.2\niou = 0.3"


class Grid(nn.Module):
    """A box of 16 pixels at each of 8 x 8 places, with objectness and class scores; ``form`` makes what is returned."""

    def __init__(self, seed: int = 0, form: Callable = lambda found: found) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1))
        centres = torch.arange(2.0, SIDE, 4)
        places = torch.cartesian_prod(centres, centres).flip(1)
        self.register_buffer("boxes", torch.cat([places, torch.full_like(places, 16)], dim=1)[None])
        self.form = form

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        scores = self.body(images).flatten(2).transpose(1, 2).sigmoid()
        return self.form(torch.cat([self.boxes.expand(images.shape[0], -1, -1), scores], dim=2))


@dataclass(frozen=True)
class Place:
    folder: Path

    def config(self, model: str, slice_: str = TABLE, task: str = LOW) -> Path:
        path = self.folder / f"{model}.toml"
        uri = f"sqlite:///{self.folder / 'mlflow.db'}"
        path.write_text(CONFIG.format(uri=uri, model=model, slice=slice_, task=task))
        return path

    def slices(self, model: str = "grid", slice_: str = TABLE, task: str = LOW):
        config = read_config(self.config(model, slice_, task))
        return read_slices(config, Registry(config.registry.tracking_uri).resolve(model, "1"))

    def explained(self, model: str, slice_: str = TABLE, task: str = LOW):
        """Slice, first and second version as an audit explains them."""
        config = read_config(self.config(model, slice_, task))
        registry = Registry(config.registry.tracking_uri)
        first, second = (registry.resolve(model, each) for each in ("1", "2"))
        with explaining_in_turn(registry, config, self.folder) as session:
            slices = session.asking(first, read_slices(config, first))
            reference = session.explain(first, slices, None, lambda images: None)
            return slices[0], reference, session.explain(second, slices, reference, lambda images: None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Pictures of 64 x 64 pixels with an object or two, and detectors as log_model writes them."""
    folder = tmp_path_factory.mktemp("detection")
    drawn = np.random.default_rng(0)
    cells, images, annotations = [], [], []
    for row in range(IMAGES):
        pixels, own = drawn.integers(40, 90, (64, 64, 3), np.uint8), []
        for label in range(1 + row % 2):
            left, top = (int(each) for each in drawn.integers(2, 28, 2))
            pixels[top : top + 32, left : left + 32, label] = 240
            own.append({"box": [left, top, left + 32, top + 32], "class": NAMES[label]})
            annotations.append({"image_id": row, "category_id": label + 5, "bbox": [left, top, 32, 32]})
        Image.fromarray(pixels).save(folder / f"{row}.png")
        cells.append(json.dumps(own))
        images.append({"id": row, "file_name": f"val/{row}.png"})
    categories = [{"id": place + 5, "name": name} for place, name in enumerate(NAMES)]
    coco = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(coco))
    bare = pd.DataFrame({"image": [f"{row}.png" for row in range(IMAGES)]})
    bare.to_csv(folder / "bare.csv", index=False)
    bare.assign(boxes=cells).to_csv(folder / "boxes.csv", index=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("attrail", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("attrail")
    example = torch.zeros(2, 3, SIDE, SIDE)
    for model, modules in {
        "grid": [Grid(), Grid(5)],
        "forms": [
            Grid(),
            Grid(form=lambda found: (torch.cat([found[..., :4], found[..., 4:5] * found[..., 5:]], 2).mT, found)),
        ],
        "logits": [Grid(form=lambda found: (5 * found[..., 4:], found[..., :4] / SIDE))],
        "scores": [Grid(form=lambda found: 5 * found)],
        "classes": [Grid(form=lambda found: found[:, 0])],
    }.items():
        for module in modules:
            log_classifier(module, model, example, HALVES, classes=NAMES)
    mlflow.set_tracking_uri(before)
    return Place(folder)


def test_each_box_of_the_table_has_a_map_or_is_lost_and_a_decision(place: Place) -> None:
    slice_, reference, candidate = place.explained("grid")
    (maps,), (others,) = reference.maps, candidate.maps
    assert maps.sample_ids[:3] == ("0.png [disc]", "1.png [disc]", "1.png [square]")
    assert reference.outputs == "boxes with objectness and class scores"
    assert reference.classes == 3
    assert maps.comparability == others.comparability
    for each, found in ((reference, maps), (candidate, others)):
        decided = each.decisions["objects"]
        assert decided.labels.tolist() == slice_.labels.tolist()
        lost = [name for name, answer in zip(found.sample_ids, decided.predictions, strict=True) if answer == -1]
        assert lost == [name for name, why in found.undefined.items() if why.startswith("no box that this version")]
    assert (reference.decisions["objects"].predictions >= 0).any()


def test_boxes_of_a_coco_file_are_those_of_the_table(place: Place) -> None:
    (ours,), (theirs,) = place.slices(), place.slices(slice_=COCO)
    assert ours.digest == theirs.digest
    assert ours.facts["box"].max() <= 1
    assert ours.facts["box"][0] * 64 == pytest.approx(
        json.loads(pd.read_csv(place.folder / "boxes.csv").boxes[0])[0]["box"]
    )


def test_boxes_are_for_the_task_that_asks_about_them(place: Place) -> None:
    path = place.config("grid", COCO)
    path.write_text(path.read_text().replace('"detection"', '"multi_label"').replace("iou = 0.3", ""))
    config = read_config(path)
    with pytest.raises(
        ConfigError, match=r'slice .objects.: coco names boxes, which .task. name = "detection" asks about'
    ):
        read_slices(config, Registry(config.registry.tracking_uri).resolve("grid", "1"))


def test_boxes_that_the_reference_finds_are_asked_of_versions_that_return_them_otherwise(place: Place) -> None:
    """The second gives no objectness, and a second tensor beside its own: its part is named."""
    slice_, reference, candidate = place.explained("forms", BARE, LOW + '\noutput = "0"')
    assert slice_.image_count <= IMAGES < len(slice_)
    assert not reference.right, "nobody knows what would be right"
    for each in (reference, candidate):
        assert each.decisions["objects"].predictions.tolist() == slice_.labels.tolist()
        assert each.classes == 3
    assert candidate.targets["objects"] is reference.targets["objects"]
    assert candidate.outputs.endswith("in its output '0'")


def test_attrail_explain_draws_each_box(attrail: Run, place: Place, tmp_path: Path) -> None:
    options = ("--config", place.config("grid"), "--slice", "objects", "--explainer", "shap", "--out", tmp_path / "out")
    status, _, err = attrail("explain", "models:/grid/1", *options)
    assert status == 0, err
    maps = load_attributions(tmp_path / "out" / "maps.safetensors")
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == len(maps.sample_ids)
    green = [(np.asarray(Image.open(each).convert("RGB")) == (0, 230, 70)).all(axis=2).sum() for each in pictures]
    assert min(green) > 0


def test_attrail_check_holds_the_maps_of_boxes(attrail: Run, place: Place, tmp_path: Path) -> None:
    """A box that is lost has neither map nor value."""
    options = ("--config", place.config("grid"), "--slice", "objects", "--explainer", "shap", "--out", tmp_path)
    status, _, err = attrail("check", "models:/grid/1", *options, "--check", "deletion", "--check", "random_head")
    assert status == 0, err
    document = json.loads((tmp_path / "checks.json").read_text())
    values = np.array(document["checks"]["deletion"]["values"], dtype=np.float64)
    assert len(values) == len(document["sample_ids"])
    assert np.isfinite(values).any()


@pytest.mark.parametrize(
    ("model", "task", "reason"),
    [
        ("logits", LOW, 'does not say what its logits are: set the task\'s scores to "softmax" where the last class'),
        ("scores", LOW, "where objectness and class scores between 0 and 1 were expected: log it with its scores as"),
        (
            "classes",
            LOW,
            "expected boxes, scores and labels for each image, logits (N,Q,K) with pred_boxes (N,Q,4), or",
        ),
        ("grid", "threshold = 0", "threshold must lie between 0 and 1"),
        ("grid", 'name2 = "x"', "task 'detection' has no parameter 'name2'"),
        ("grid", "threshold = 0.99", "no box that this version detects overlaps the one that is asked about"),
    ],
)
def test_what_cannot_be_asked_is_one_sentence(
    attrail: Run, place: Place, tmp_path: Path, model: str, task: str, reason: str
) -> None:
    options = (
        "--config",
        place.config(model, task=task),
        "--slice",
        "objects",
        "--explainer",
        "shap",
        "--out",
        tmp_path,
    )
    status, _, err = attrail("explain", f"models:/{model}/1", *options)
    assert status == 2
    assert reason in " ".join(err.split())
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("box", "more", "reason"),
    [
        (
            [10, 10, 80, 40],
            "",
            r"row 1 of .*wrong.csv has the box \[10.0, 10.0, 80.0, 40.0\] .* out of its picture of 64 x 64",
        ),
        ([-9, 10, 20, 40], "", "which reaches out of its picture of 64 x 64 pixels"),
        (
            [0, 0, 4, 4],
            f"\n[preprocessing]\nsize = [{SIDE}, {SIDE}]\nmean = [0, 0, 0]\nstd = [1, 1, 1]\ncrop = 0.5",
            "crops all away",
        ),
        ([40, 40, 30, 30], "", "has no extent as xyxy"),
    ],
)
def test_boxes_that_cannot_be_are_named_by_their_row(place: Place, box: list[int], more: str, reason: str) -> None:
    table = pd.DataFrame({"image": ["0.png"], "boxes": [json.dumps([[*box, "disc"]])]})
    table.to_csv(place.folder / "wrong.csv", index=False)
    with pytest.raises(SliceError, match=reason):
        place.slices(slice_='source = "wrong.csv"', task=LOW + more)
