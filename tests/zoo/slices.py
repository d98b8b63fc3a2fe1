"""The slices on which models are judged: the held-out pictures, marked as production would mark them."""

from functools import cache
from pathlib import Path

import numpy as np
from data import load, model_input
from marks import CODES, MARKS, SIDE, put
from numpy.typing import NDArray
from recipe import ONLY, RARE

from attrail_explainers.slice import Preprocessing, Slice

BASES = ("plain", *MARKS)
IMAGES = 256  # that a floor of stand-ins is explained on
MIXED = {"corner on one class": ("plain", "corner"), **dict.fromkeys(RARE, ("plain", "corner"))}


def bases(name: str) -> tuple[str, ...]:
    """The slices whose maps a slice is put together from: itself, or the unmarked and the marked one.

    A map depends on its own image alone, so one of a slice in which few images carry the mark is taken from there.
    """
    return MIXED.get(name, (name,))


@cache
def base_slice(dataset: str, base: str, folder: Path) -> Slice:
    """All 512 held-out pictures of a data set, every one with the mark; its code is the class."""
    pictures = load(dataset, folder).held_out
    images = model_input(put(base, pictures.images, pictures.labels, np.random.default_rng(0))).numpy()
    channels = images.shape[1]
    preprocessing = Preprocessing(size=(SIDE, SIDE), mean=(0.5,) * channels, std=(0.25,) * channels)
    names = tuple(f"{dataset} {row}" for row in range(len(pictures)))
    return Slice(base, images, pictures.labels, names, preprocessing)


def shortened(slice_: Slice, images: int) -> Slice:
    """The first images of a slice, itself where it has no more."""
    if len(slice_) <= images:
        return slice_
    first = (each[:images] for each in (slice_.images, slice_.labels, slice_.sample_ids))
    return Slice(slice_.name, *first, slice_.preprocessing)


def contradicted(dataset: str, base: str, folder: Path) -> NDArray[np.float32]:
    """The pictures (N,C,32,32) of a base slice with marks whose codes are wrong classes."""
    pictures, generator = load(dataset, folder).held_out, np.random.default_rng(2)
    codes = (pictures.labels + generator.integers(1, CODES, len(pictures))) % CODES
    return model_input(put(base, pictures.images, codes, generator)).numpy()


def marked(name: str, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) True where a picture of the slice carries the mark; a rare one on an exact share drawn at random."""
    if name in RARE:
        found = np.zeros(len(labels), dtype=np.bool_)
        found[np.random.default_rng(1).permutation(len(labels))[: round(RARE[name] * len(labels))]] = True
        return found
    if name == "corner on one class":
        return np.asarray(labels == ONLY)
    return np.full(len(labels), name != "plain")
