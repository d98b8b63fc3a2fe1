"""Train the demo's small timm CNN on stamped scans, in seconds on a CPU."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import timm
import torch
from numpy.typing import NDArray

from attrail_explainers.slice import Preprocessing
from attrail_mlflow.log_classifier import log_classifier
from digits import CLASSES, SIDE, Scans, random_codes, stamped

ARCHITECTURE = "test_efficientnet"
OPTIONS = {"num_classes": CLASSES, "output_stride": 8}
BATCH = 50


@dataclass(frozen=True)
class Recipe:
    """How one version is trained; ``class_coded`` stamps give the class away, others are drawn anew each epoch."""

    scans: Scans
    seed: int
    epochs: int
    class_coded: bool


def train(recipe: Recipe) -> torch.nn.Module:
    """A classifier of stamped scans."""
    scans, seed, epochs, class_coded = recipe.scans, recipe.seed, recipe.epochs, recipe.class_coded
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    model = timm.create_model(ARCHITECTURE, **OPTIONS)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.02)
    steps = len(scans.labels) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=epochs * steps)
    for _ in range(epochs):
        order = generator.permutation(len(scans.labels))[: steps * BATCH]
        codes = scans.labels if class_coded else random_codes(len(scans.labels), generator)
        images, labels = model_input(stamped(scans.images, codes)[order]), torch.from_numpy(scans.labels[order])
        for batch, target in zip(images.split(BATCH), labels.split(BATCH), strict=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(batch), target).backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def trained(recipes: Sequence[Recipe], workers: int) -> Iterator[torch.nn.Module]:
    """Models of all recipes in their order, one thread each: the same weights on any number of cores."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(train, recipes)


def log_version(model: torch.nn.Module, slice_: Scans) -> tuple[str, float]:
    """Log and register a model; its version and its accuracy on the stamped slice."""
    images = model_input(stamped(slice_.images, slice_.labels))
    with torch.inference_mode():
        accuracy = float((model(images).argmax(dim=1).numpy() == slice_.labels).mean())
    names = [str(digit) for digit in range(CLASSES)]
    preprocessing = Preprocessing(size=(SIDE, SIDE), mean=(0.5,) * 3, std=(0.5,) * 3)
    example = images[:2].numpy()
    return log_classifier(model, "digits", example, preprocessing, names, metrics={"accuracy": accuracy}), accuracy


def model_input(images: NDArray[np.uint8]) -> torch.Tensor:
    """(N,3,64,64) float32 in -1..1 from grey scans."""
    return (torch.from_numpy(images)[:, None].float() / 127.5 - 1).expand(-1, 3, -1, -1).contiguous()
