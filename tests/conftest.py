"""Shared by all tests: a few real pictures and a small network with everything that explainers tend to disturb."""

import os
from collections.abc import Callable, Iterator
from dataclasses import Field
from pathlib import Path
from typing import Any, get_args

import mlflow
import numpy as np
import pytest
import torch
from hypothesis import settings
from mlflow.tracking import fluent
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch import nn

settings.register_profile("attrail", deadline=None)  # a busy machine is no failure
settings.load_profile("attrail")

os.environ["KERAS_BACKEND"] = "torch"  # before any test imports Keras, whose own default is not installed

FLOWS = Path(__file__).parent / "flows"
SIDE = 64
CLASSES = 5


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whole audits first: a file is one process's work, and a long one that comes last leaves the other idle."""
    items.sort(key=lambda item: not item.path.is_relative_to(FLOWS))


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _mlflows_address_is_given_back() -> Iterator[None]:
    """It is the whole process's: a later test must not ask a database that an earlier one made, or damaged."""
    before = mlflow.get_tracking_uri()
    yield
    if mlflow.get_tracking_uri() != before:
        mlflow.set_tracking_uri(before)


@pytest.fixture
def no_experiment(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process of its own: no experiment was set, whose number another database does not know."""
    monkeypatch.setattr(fluent, "_active_experiment_id", None)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_ID", raising=False)


@pytest.fixture
def impossible() -> Callable[[Field[Any]], list[Any]]:
    """What no parameter of a field's annotation can be: another type, NaN, infinite, True for a number."""

    def values(field: Field[Any]) -> list[Any]:
        kinds = set(get_args(field.type) or [field.type])
        wrong: list[Any] = [float("nan"), float("inf"), *([] if bool in kinds else [True])]
        wrong += [] if str in kinds else ["8"]
        wrong += [] if kinds & {int, float} else [3]
        return wrong + ([64.0] if int in kinds and float not in kinds else [])

    return values


@pytest.fixture
def pictures() -> NDArray[np.float32]:
    """Six photographs (6,3,64,64), scaled to -1..1; noise would not do: SLIC finds no superpixels in it."""
    sources = (
        data.astronaut,
        data.coffee,
        data.chelsea,
        data.rocket,
        data.hubble_deep_field,
        data.immunohistochemistry,
    )
    small = [np.asarray(Image.fromarray(source()).resize((SIDE, SIDE))) for source in sources]
    return np.ascontiguousarray(np.stack(small).transpose(0, 3, 1, 2) / 127.5 - 1, dtype=np.float32)


class SmallNet(nn.Module):
    """In-place first operation, batch norm, in-place ReLU, dropout: whatever is left switched on shows in the maps."""

    def __init__(self) -> None:
        super().__init__()
        self.squash = nn.Hardtanh(-0.9, 0.9, inplace=True)
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=2, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 16, 3, stride=2, padding=1),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.pool(self.features(self.squash(images))).flatten(1)))


class SmallTransformer(nn.Module):
    """Patches, a class token and two blocks of attention over all tokens, after an in-place first operation."""

    def __init__(self) -> None:
        super().__init__()
        self.squash = nn.Hardtanh(-0.9, 0.9, inplace=True)
        self.patches = nn.Conv2d(3, 16, 16, stride=16)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        layers = [nn.TransformerEncoderLayer(16, 2, 32, dropout=0.5, batch_first=True) for _ in range(2)]
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(16, CLASSES)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        patches = self.patches(self.squash(images)).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(images), -1, -1), patches], dim=1)
        return self.head(self.blocks(tokens)[:, 0])


@pytest.fixture
def small_transformer() -> Callable[[int], nn.Module]:
    """Makes a SmallTransformer from a seed, in training mode but for one submodule, with one frozen parameter."""

    def make(seed: int = 24) -> nn.Module:
        torch.manual_seed(seed)
        net = SmallTransformer()
        net.blocks[0].eval()
        net.patches.weight.requires_grad_(False)
        return net

    return make


@pytest.fixture
def small_net() -> Callable[[int], nn.Module]:
    """Makes a SmallNet from a seed, in training mode but for one submodule, with one frozen parameter."""

    def make(seed: int = 24) -> nn.Module:
        torch.manual_seed(seed)
        net = SmallNet()
        with torch.no_grad():
            for layer in (net.features[0], net.features[3], net.head):
                layer.weight.mul_(4)
            for norm in (net.features[1], net.features[4]):
                norm.running_mean.normal_(0, 0.1)
                norm.running_var.uniform_(0.5, 1.5)
        net.features[1].eval()
        net.features[0].weight.requires_grad_(False)
        return net

    return make
