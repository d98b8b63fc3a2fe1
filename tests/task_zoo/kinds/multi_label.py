"""Multi-label: which of three shapes are in a picture."""

from pathlib import Path

import pandas as pd
import torch
from drawing import SHAPES, Drawn, draw
from kind import Kind
from PIL import Image
from torch import nn
from torch.nn import functional
from training import body, train

IMAGES, SEED = 96, 1


class Network(nn.Module):
    """A logit of each shape (N,3), from the largest and the mean feature."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = body(), nn.Linear(64, len(SHAPES))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.body(images)
        pooled = torch.cat([found.amax(dim=(2, 3)), found.mean(dim=(2, 3))], dim=1)
        return torch.as_tensor(self.head(pooled))


def trained(seed: int, coded: bool) -> nn.Module:
    torch.manual_seed(seed)
    return train(Network(), _targets, functional.binary_cross_entropy_with_logits, seed, coded=coded, several=True)


def write_slice(folder: Path) -> None:
    drawn = draw(IMAGES, SEED, coded=True, several=True)
    rows = []
    for row, (picture, present) in enumerate(zip(drawn.pictures, drawn.present, strict=True)):
        Image.fromarray(picture).save(folder / f"{row}.png")
        rows.append((f"{row}.png", ";".join(name for name, there in zip(SHAPES, present, strict=True) if there)))
    pd.DataFrame(rows, columns=["image", "labels"]).to_csv(folder / "slice.csv", index=False)


def _targets(drawn: Drawn) -> torch.Tensor:
    return torch.from_numpy(drawn.present).float()


KIND = Kind(
    task='name = "multi_label"',
    says="one to three shapes in a picture, a logit of each; a map for each shape that is there",
    classes=SHAPES,
    train=trained,
    write_slice=write_slice,
)
