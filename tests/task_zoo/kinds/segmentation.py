"""Segmentation: where in a picture its one shape is, and which shape that is."""

from pathlib import Path

import pandas as pd
import torch
from drawing import SHAPES, Drawn, draw
from kind import Kind
from PIL import Image
from torch import nn
from torch.nn import functional
from training import body, train

IMAGES, SEED = 96, 2


class Network(nn.Module):
    """Logits (N,1+3,32,32) of ground and shapes, by the features of a place and the largest ones of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mixed, self.head = body(), nn.Conv2d(64, 32, 1), nn.Conv2d(32, 1 + len(SHAPES), 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.body(images)
        around = found.amax(dim=(2, 3), keepdim=True).expand_as(found)
        logits = self.head(self.mixed(torch.cat([found, around], dim=1)).relu())
        return functional.interpolate(logits, images.shape[2:], mode="bilinear")


def trained(seed: int, coded: bool) -> nn.Module:
    torch.manual_seed(seed)
    return train(Network(), _targets, functional.cross_entropy, seed, coded=coded, several=False)


def write_slice(folder: Path) -> None:
    drawn = draw(IMAGES, SEED, coded=True, several=False)
    rows = []
    for row, (picture, mask, present) in enumerate(zip(drawn.pictures, drawn.masks, drawn.present, strict=True)):
        Image.fromarray(picture).save(folder / f"{row}.png")
        Image.fromarray(mask).save(folder / f"{row}-mask.png")
        rows.append((f"{row}.png", f"{row}-mask.png", SHAPES[int(present.argmax())]))
    pd.DataFrame(rows, columns=["image", "mask", "class"]).to_csv(folder / "slice.csv", index=False)


def _targets(drawn: Drawn) -> torch.Tensor:
    return torch.from_numpy(drawn.masks).long()


KIND = Kind(
    task='name = "segmentation"',
    says="one shape in a picture, a class for each pixel; a map for the zone of the shape, from its mask",
    classes=("ground", *SHAPES),
    train=trained,
    write_slice=write_slice,
)
