"""The data sets of the zoo: pictures of 32x32 pixels to train on, and 512 that no model sees before it is explained."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from marks import SIDE, Images
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

HELD_OUT = 512
FILES = {"fashion": "fashion_mnist.npz", "cifar": "cifar10.npz"}


@dataclass(frozen=True)
class Pictures:
    """Images (N,C,32,32) uint8 with labels (N,)."""

    images: Images
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def at(self, rows: NDArray[np.int64]) -> "Pictures":
        return Pictures(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class DataSet:
    """A pool to draw training samples from, and the held-out pictures of the slice."""

    pool: Pictures
    held_out: Pictures


def available(folder: Path) -> list[str]:
    """Names of the data sets at hand: digits always, others where their file is in the folder."""
    return ["digits", *(name for name, file in FILES.items() if (folder / file).is_file())]


@cache
def load(name: str, folder: Path) -> DataSet:
    """A data set by name: scikit-learn's digits (UCI optdigits) or a file of the folder."""
    return _digits() if name == "digits" else _stored(folder / FILES[name])


def model_input(images: Images) -> torch.Tensor:
    """Images as the networks take them, (N,C,32,32) float32 in -2..2."""
    return torch.from_numpy(images).float() / 63.75 - 2


def _digits() -> DataSet:
    digits = load_digits()
    images = _enlarged((digits.images * 255 / 16).astype(np.uint8)[:, None])
    order = np.random.default_rng(0).permutation(len(images))
    every = Pictures(images[order], digits.target[order].astype(np.int64))
    rows = np.arange(len(every))
    return DataSet(every.at(rows[HELD_OUT:]), every.at(rows[:HELD_OUT]))


def _stored(path: Path) -> DataSet:
    with np.load(path, allow_pickle=False) as file:
        pool, held_out = (
            Pictures(_square(file[f"{part}_images"]), file[f"{part}_labels"].astype(np.int64))
            for part in ("train", "test")
        )
    return DataSet(pool, held_out.at(np.random.default_rng(0).permutation(len(held_out))[:HELD_OUT]))


def _square(images: Images) -> Images:
    """(N,28,28) or (N,32,32,C) as (N,C,32,32); 28x28 get a border of zeros."""
    if images.ndim == 4:
        return np.ascontiguousarray(np.moveaxis(images, -1, 1))
    border = (SIDE - images.shape[1]) // 2
    return np.pad(images, ((0, 0), (border, border), (border, border)))[:, None]


def _enlarged(images: Images) -> Images:
    """(N,1,8,8) as (N,1,32,32): digits of 24 pixels with a border, as scans have one."""
    border = 4
    size = SIDE - 2 * border
    found = np.zeros((len(images), 1, SIDE, SIDE), dtype=np.uint8)
    for row, image in enumerate(images[:, 0]):
        picture = Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC)
        found[row, 0, border:-border, border:-border] = np.asarray(picture)
    return found
