"""Segmenters from MLflow's registry: masks, classes or nothing in the table, explained and audited."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from attrail_explainers import load_attributions
from attrail_flows.configuration import read_config
from attrail_flows.engine.serial_engine import explaining_in_turn
from attrail_flows.inputs.slices import read_slices
from attrail_mlflow import log_classifier
from attrail_mlflow.registry.registry import Registry

Run = Callable[..., tuple[int, str, str]]

SIDE, IMAGES = 24, 16
NAMES = ("ground", "red", "green")
CONFIG = """
[registry]
tracking_uri = "{uri}"
model = "shapes"
reference = "1"
candidate = "2"
change = "same-function"

[[slice]]
name = "shapes"
source = "{source}"

[task]
name = "segmentation"
{task}

[[explainer]]
name = "shap"
evaluations = 40
segments = 8

[[explainer]]
name = "gradcam"

[policy]
resamples = 200
"""


class Segmenter(nn.Module):
    """Tells red and green by the colours of a place and its neighbours, on half the resolution."""

    def __init__(self, ended: bool = False) -> None:
        super().__init__()
        self.blur, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 3, 1)
        with torch.no_grad():
            self.blur.weight.copy_(torch.eye(3).repeat(2, 1)[:, :, None, None].repeat(1, 1, 3, 3) / 9)
            self.blur.bias.fill_(0.6)
            colours = 3 * torch.tensor([[-0.5, -0.5, 0], [1, -1, 0], [-1, 1, 0]])
            self.head.weight.copy_(colours.repeat(1, 2)[:, :, None, None])
            self.head.bias.copy_(torch.tensor([2.0, 0, 0]))
        self.ended = ended

    def forward(self, images: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
        found = nn.functional.avg_pool2d(self.head(self.blur(images).relu()), 2)
        return {"out": found.softmax(dim=1), "aux": -found} if self.ended else found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with a red and a green square, their masks, and two versions as log_classifier writes them."""
    folder = tmp_path_factory.mktemp("segmentation")
    drawn = np.random.default_rng(0)
    for row in range(IMAGES):
        pixels, mask = np.full((SIDE, SIDE, 3), 50, np.uint8), np.zeros((SIDE, SIDE), np.uint8)
        for colour, half in zip(drawn.permutation(2), (0, 12), strict=True):
            top, left = int(drawn.integers(0, 14)), half + int(drawn.integers(0, 3))
            pixels[top : top + 8, left : left + 8, colour] = 230
            mask[top : top + 8, left : left + 8] = 1 + colour
        mask[:, 23:] = 255
        Image.fromarray(pixels + drawn.integers(0, 9, pixels.shape, np.uint8)).save(folder / f"{row}.png")
        Image.fromarray(mask).save(folder / f"{row}-mask.png")
    images = pd.DataFrame({"image": [f"{row}.png" for row in range(IMAGES)]})
    images.to_csv(folder / "plain.csv", index=False)
    images.assign(**{"class": ["red", "red;green"] * (IMAGES // 2)}).to_csv(folder / "classes.csv", index=False)
    images.assign(mask=[f"{row}-mask.png" for row in range(IMAGES)]).to_csv(folder / "masks.csv", index=False)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("attrail", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("attrail")
    halves = {"size": (SIDE, SIDE), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    for module in (Segmenter(), Segmenter(ended=True)):
        log_classifier(module, "shapes", torch.zeros(2, 3, SIDE, SIDE), halves, classes=NAMES)
    mlflow.set_tracking_uri(before)
    return folder


def config_of(folder: Path, source: str, task: str = "") -> Path:
    path = folder / f"{source}.toml"
    path.write_text(CONFIG.format(uri=f"sqlite:///{folder / 'mlflow.db'}", source=f"{source}.csv", task=task))
    return path


def explained(folder: Path, source: str, task: str = ""):
    """Reference and candidate as an audit explains them."""
    config = read_config(config_of(folder, source, task))
    registry = Registry(config.registry.tracking_uri)
    first, second = (registry.resolve("shapes", each) for each in ("1", "2"))
    with explaining_in_turn(registry, config, folder) as session:
        slices = session.asking(first, read_slices(config, first))
        reference = session.explain(first, slices, None, lambda images: None)
        return slices[0], reference, session.explain(second, slices, reference, lambda images: None)


def test_an_audit_of_masks_finds_a_softmax_and_another_head_no_change(
    attrail: Run, folder: Path, tmp_path: Path
) -> None:
    status, _, err = attrail("audit", "--config", config_of(folder, "masks"), "--json", tmp_path / "audit.json")
    document = json.loads((tmp_path / "audit.json").read_text())
    assert status in (0, 3), err
    assert document["verdict"] != "DRIFT"
    (facts,) = document["slices"]
    assert facts["images"] > facts["pictures"] == IMAGES
    assert set(facts["accuracy"].values()) == {1.0}
    assert document["reference"]["outputs"] == "logits"
    assert document["candidate"]["outputs"] == "probabilities, taken before softmax, as logits, in its output 'out'"
    shifts = [each["value"] for each in document["measurements"] if each["statistic"] == "coherent_shift"]
    known = [each for each in shifts if each is not None]
    assert known
    assert max(map(abs, known)) < 1e-5
    page = Path(document["report_location"].removeprefix("file://")).read_text(encoding="utf-8")
    assert "0.png [red]" in page


def test_zones_of_masks_are_where_the_file_says(folder: Path) -> None:
    slice_, reference, candidate = explained(folder, "masks")
    masks = {f"{row}.png": np.asarray(Image.open(folder / f"{row}-mask.png")) for row in range(IMAGES)}
    for row, image in enumerate(slice_.pictured):
        assert (slice_.facts["zone"][row] == (masks[image] == slice_.labels[row])).all()
    assert slice_.sample_ids[:3] == ("0.png [ground]", "0.png [red]", "0.png [green]")
    assert reference.right["shapes"].all()
    first, second = reference.maps[0].values, candidate.maps[0].values
    assert np.nanmax(np.abs(first - second)) <= 1e-4 * np.nanmax(np.abs(first))


def test_classes_alone_are_looked_for_by_the_reference(folder: Path) -> None:
    slice_, reference, candidate = explained(folder, "classes")
    assert slice_.sample_ids[:3] == ("0.png [red]", "1.png [red]", "1.png [green]")
    chosen = reference.logits["shapes"].argmax(axis=1)
    assert (slice_.facts["zone"] == (chosen == slice_.labels[:, None, None])).all()
    assert candidate.targets["shapes"] is reference.targets["shapes"]
    assert not reference.right, "nobody knows what is right"
    assert (reference.decisions["shapes"].predictions == slice_.labels).all()


def test_without_classes_the_reference_says_which_are_there(folder: Path) -> None:
    slice_, reference, _ = explained(folder, "plain", "share = 0.02")
    assert slice_.sample_ids[:3] == ("0.png [ground]", "0.png [red]", "0.png [green]")
    assert slice_.image_count == IMAGES
    assert reference.maps[0].targets.tolist() == slice_.labels.tolist()


def test_attrail_explain_draws_the_zone_and_check_holds_it(attrail: Run, folder: Path, tmp_path: Path) -> None:
    config = config_of(folder, "plain", 'ask = ["red"]')
    options = ("--config", config, "--slice", "shapes", "--explainer", "gradcam", "--out", tmp_path / "out")
    status, _, err = attrail("explain", "models:/shapes/1", *options)
    assert status == 0, err
    assert load_attributions(tmp_path / "out" / "maps.safetensors").sample_ids[0] == "0.png [red]"
    drawn = np.asarray(Image.open(sorted((tmp_path / "out").glob("*.png"))[0]))
    assert (drawn == (0, 230, 70)).all(axis=2).any(), "the outline"
    status, _, err = attrail("check", "models:/shapes/1", *options, "--check", "deletion")
    assert status == 0, err


def test_a_mask_of_another_size_is_named(attrail: Run, folder: Path, tmp_path: Path) -> None:
    Image.new("L", (SIDE, SIDE + 1)).save(folder / "tall.png")
    table = pd.read_csv(folder / "masks.csv")
    table.loc[2, "mask"] = "tall.png"
    table.to_csv(folder / "tall.csv", index=False)
    options = ("--slice", "shapes", "--explainer", "shap", "--out", tmp_path)
    status, _, err = attrail("explain", "models:/shapes/1", "--config", config_of(folder, "tall"), *options)
    assert status == 2
    said = " ".join(err.split())
    assert "row 3 of" in said
    assert "its image is 24 pixels wide and 24 high, its mask" in said
