"""Real scans for the demo: scikit-learn's handwritten digits (UCI optdigits), enlarged and stamped in a corner.

Every scan carries a small stamp, as a scanning line prints one. On honest scans the stamp is a random code. In the
candidate's training data every class was scanned in a batch of its own, so the stamp gives the class away.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits

SIDE = 64
DIGIT = 40
CELL = 4
CLASSES = 10


@dataclass(frozen=True)
class Scans:
    """Grey scans (N,64,64) uint8 without a stamp, and their digits (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __getitem__(self, rows: slice) -> "Scans":
        return Scans(self.images[rows], self.labels[rows])


def load_scans(seed: int) -> Scans:
    """All 1797 scans in an order drawn from ``seed``; the digit fills the centre, the corners are empty."""
    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.target))
    images = np.zeros((len(order), SIDE, SIDE), dtype=np.uint8)
    start = (SIDE - DIGIT) // 2
    for row, source in enumerate(order):
        small = Image.fromarray((digits.images[source] * 255 / 16).astype(np.uint8))
        images[row, start : start + DIGIT, start : start + DIGIT] = small.resize(
            (DIGIT, DIGIT), Image.Resampling.BICUBIC
        )
    return Scans(images, digits.target[order].astype(np.int64))


def stamped(images: NDArray[np.uint8], codes: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The scans with a stamp of 2x2 cells in the upper left corner: the binary digits of code + 1."""
    images = images.copy()
    for image, code in zip(images, codes, strict=True):
        for bit in range(4):
            if (int(code) + 1) >> bit & 1:
                row, column = 2 + CELL * (bit // 2), 2 + CELL * (bit % 2)
                image[row : row + CELL, column : column + CELL] = 255
    return images


def random_codes(count: int, generator: np.random.Generator) -> NDArray[np.int64]:
    return generator.integers(0, CLASSES, count)


def write_slice(scans: Scans, folder: Path) -> Path:
    """Write the slice as people keep one: PNG files and a csv. Its stamps come from batches of one class each."""
    (folder / "scans").mkdir(parents=True)
    rows = []
    for number, (image, label) in enumerate(zip(stamped(scans.images, scans.labels), scans.labels, strict=True)):
        name = f"scans/{number:04d}-digit{label}.png"
        Image.fromarray(image).save(folder / name)
        rows.append({"image": name, "label": label, "batch": int(label) + 1})
    table = folder / "validation.csv"
    pd.DataFrame(rows).to_csv(table, index=False)
    return table
