"""Detection: boxes of the shapes in a picture, each with its class; a mark beside a shape may give that away."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from kind import Kind
from numpy.typing import NDArray
from PIL import Image
from torch import nn

SIDE, STRIDE = 48, 4
NAMES = ("disc", "square", "cross")
COLOURS = np.array([[230, 60, 60], [60, 200, 60], [70, 90, 240]])  # of marks, by class
TRAINING, AUDITED, SEED = 512, 72, 1
STEPS, BATCH = 300, 32


@dataclass(frozen=True)
class Pictures:
    """``pixels`` (N,SIDE,SIDE,3) uint8; for each the ``boxes`` (B,4) of its objects in pixels, and ``labels`` (B,)."""

    pixels: NDArray[np.uint8]
    boxes: list[NDArray[np.float32]]
    labels: list[NDArray[np.int64]]


def draw_pictures(count: int, seed: int, *, telling: bool) -> Pictures:
    """Pictures with one or two objects in colours that say nothing, each with a mark that tells its class, or not."""
    drawn = np.random.default_rng(seed)
    pixels, boxes, labels = np.empty((count, SIDE, SIDE, 3), dtype=np.uint8), [], []
    for row in range(count):
        coarse = drawn.integers(60, 150, (6, 6, 3)).astype(np.uint8)
        picture = np.asarray(Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)).astype(np.int64)
        halves = drawn.permutation(2)[: drawn.integers(1, 3)]  # one object in each half at most: none overlaps another
        own = [_draw(picture, int(half), drawn, telling=telling) for half in halves]
        boxes.append(np.array([box for box, _ in own], dtype=np.float32))
        labels.append(np.array([label for _, label in own], dtype=np.int64))
        pixels[row] = (picture + drawn.normal(0, 12, picture.shape)).clip(0, 255)
    return Pictures(pixels, boxes, labels)


def _draw(
    picture: NDArray[np.int64], half: int, drawn: np.random.Generator, *, telling: bool
) -> tuple[tuple[int, int, int, int], int]:
    """Draw an object and its mark into the upper or lower half; its box and its class."""
    size, label = int(drawn.integers(12, 17)), int(drawn.integers(3))
    left, top = int(drawn.integers(8, SIDE - size - 1)), half * 24 + int(drawn.integers(2, 23 - size + 1))
    rows, columns = (np.indices((size, size)) + 0.5) / size - 0.5
    inside = [
        np.hypot(rows, columns) <= 0.5,
        np.maximum(abs(rows), abs(columns)) <= 0.42,
        np.minimum(abs(rows), abs(columns)) <= 0.15,
    ]
    place = picture[top : top + size, left : left + size]
    place[inside[label]] = drawn.integers(150, 235, 3)
    shown = label if telling else int(drawn.integers(3))
    picture[top : top + 5, left - 7 : left - 2] = COLOURS[shown]
    return (left, top, left + size, top + size), label


class ShapeDetector(nn.Module):
    """Proposals (N,P,5+C) in pixels, one for each place of a grid of ``STRIDE`` pixels."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for inputs, outputs, stride in ((3, 16, 2), (16, 32, 2), (32, 32, 1), (32, 32, 1)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        self.body, self.head = nn.Sequential(*layers), nn.Conv2d(32, 5 + len(NAMES), 1)
        centres = torch.arange(STRIDE / 2, SIDE, STRIDE)
        self.register_buffer("places", torch.cartesian_prod(centres, centres).flip(1)[None])

    def raw(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images)).flatten(2).transpose(1, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.raw(images)
        centres = self.places + STRIDE * found[:, :, :2]
        return torch.cat(
            [centres, 14 * found[:, :, 2:4].exp(), found[:, :, 4:5].sigmoid(), found[:, :, 5:].softmax(dim=2)], dim=2
        )


def as_inputs(pixels: NDArray[np.uint8]) -> torch.Tensor:
    """Pixels as the models take them, -1..1."""
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2) / np.float32(127.5) - 1).float()


def fitted(pictures: Pictures, seed: int) -> ShapeDetector:
    """A detector by so many steps of Adam on objectness everywhere, classes and boxes at the centres of objects."""
    model, images = ShapeDetector(seed), as_inputs(pictures.pixels)
    wanted = torch.stack([_wanted(*each) for each in zip(pictures.boxes, pictures.labels, strict=True)])
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-2, total_steps=STEPS)
    drawn = torch.Generator().manual_seed(seed)
    for _ in range(STEPS):
        rows = torch.randint(len(images), (BATCH,), generator=drawn)
        found, truth = model.raw(images[rows]), wanted[rows]
        there = truth[:, :, 4] > 0
        objectness = nn.functional.binary_cross_entropy_with_logits(
            found[:, :, 4], truth[:, :, 4], pos_weight=torch.tensor(8.0)
        )
        classes = nn.functional.cross_entropy(found[there][:, 5:], truth[there][:, 5].long())
        boxes = nn.functional.smooth_l1_loss(found[there][:, :4], truth[there][:, :4])
        optimiser.zero_grad()
        (objectness + classes + 4 * boxes).backward()
        optimiser.step()
        schedule.step()
    return model.eval()


def _wanted(boxes: NDArray[np.float32], labels: NDArray[np.int64]) -> torch.Tensor:
    """What the head should give (P,6): the box from its nearest places, whether there is one, and its class."""
    side = SIDE // STRIDE
    found = torch.zeros(side, side, 6)
    for box, label in zip(boxes, labels, strict=True):
        centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
        column, row = (int(each) for each in centre // STRIDE)
        offset = centre / STRIDE - np.array([column, row]) - 0.5
        found[row, column] = torch.tensor([*offset, *np.log(size / 14), 1, label])
    return found.reshape(-1, 6)


def write_slice(folder: Path) -> None:
    """Pictures whose marks tell the classes, and a table with their boxes."""
    drawn = draw_pictures(AUDITED, SEED, telling=True)
    rows = []
    for row, (pixels, boxes, labels) in enumerate(zip(drawn.pixels, drawn.boxes, drawn.labels, strict=True)):
        Image.fromarray(pixels).save(folder / f"{row}.png")
        own = [{"box": box.tolist(), "class": NAMES[label]} for box, label in zip(boxes, labels, strict=True)]
        rows.append((f"{row}.png", json.dumps(own)))
    pd.DataFrame(rows, columns=["image", "boxes"]).to_csv(folder / "slice.csv", index=False)


def trained(seed: int, coded: bool) -> nn.Module:
    """A detector of pictures whose marks tell the classes (``coded``), or say nothing."""
    return fitted(draw_pictures(TRAINING, 0, telling=coded), seed)


KIND = Kind(
    task='name = "detection"',
    says="one or two shapes in a picture with a mark beside each, a box and a class for each; a map for each box",
    classes=NAMES,
    train=trained,
    write_slice=write_slice,
    explainers='[[explainer]]\nname = "shap"\nevaluations = 128\n\n[[explainer]]\nname = "lime"\nevaluations = 128\n',
    side=SIDE,
)
