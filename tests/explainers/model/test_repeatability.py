"""No model is explained that answers an image differently when asked twice, or beside other images."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

from attrail_explainers import explain
from attrail_explainers.assessment.assessment import assess
from attrail_explainers.difference import explain_difference
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.model.repeatability import TOLERANCE

IMAGES = np.random.default_rng(0).normal(size=(3, 3, 12, 12)).astype(np.float32)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(self.before(images)).mean((2, 3)))

    def before(self, images: torch.Tensor) -> torch.Tensor:
        return images


class Dropped(Net):
    def before(self, images):
        return F.dropout(images, 0.01, training=True)


class DroppedAtTimes(Net):
    """As stochastic depth does: most calls are like the one before."""

    def before(self, images):
        return images * (torch.rand(len(images), 1, 1, 1) > 0.1)


class Noisy(Net):
    def before(self, images):
        return images + 0.01 * torch.randn_like(images)


class Centred(Net):
    def before(self, images):
        return images - images.mean(0)


class OfBatch(Net):
    def before(self, images):
        return F.batch_norm(images, None, None, training=True)


class ByPlace(Net):
    def before(self, images):
        return images + torch.arange(len(images))[:, None, None, None]


class DroppedByNumPy(Net):
    def before(self, images):
        return images * (np.random.rand() > 0.1)


class DroppedByPython(Net):
    def before(self, images):
        return images * (random.random() > 0.1)


class Warming(Net):
    """It answers alike for some calls, and counts them in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def before(self, images):
        self.calls += 1
        return images * (1 if self.calls < 12 else 2)


class OfSums(Net):
    """Honest: each image is the difference of two sums. In float32 they are rounded by what went before."""

    def before(self, images):
        sums = (images + 1e6).cumsum(0)
        return torch.cat([sums[:1], sums[1:] - sums[:-1]]) - 1e6


class OfSumsCentred(OfSums):
    def before(self, images):
        return super().before(images) - 0.1 * images.mean(0)


class OfSumsCentredLate(OfSums):
    """Its other images do less than its rounding does."""

    def forward(self, images):
        logits = super().forward(images)
        return logits + 0.01 * logits.mean(0)


class OfSumsInFloat(OfSums):
    """It cannot be run in double precision."""

    def forward(self, images):
        return super().forward(images.float())


class OtherAlone(Net):
    def before(self, images):
        return images if len(images) > 1 else images.flip(3)


class OtherInMany(Net):
    def before(self, images):
        return images if len(images) < 8 else images.flip(3)


class Crowded(Net):
    """As experts do that take so many images of a batch and no more."""

    def before(self, images):
        return images * (torch.arange(len(images)) < 4)[:, None, None, None]


class Squeezed(Net):
    def forward(self, images):
        return super().forward(images).squeeze()


class CountedBatches(Warming):
    def before(self, images):
        self.calls += 1
        return images


class Counting(Net):
    calls = 0

    def before(self, images):
        self.calls += 1
        return images / self.calls


class OfImage(Net):
    def before(self, images):
        return F.instance_norm(images)


class Undropped(Net):
    def before(self, images):
        return F.dropout(images, 0.0, training=True)


class Seeded(Net):
    def before(self, images):
        generator = torch.Generator().manual_seed(7)
        return images + torch.randn(images.shape[1:], generator=generator)


def exported(module: nn.Module, folder: Path, images: int = 2) -> Classifier:
    dynamic = ({0: torch.export.Dim.AUTO},) if images > 1 else None
    program = torch.export.export(module, (torch.zeros(images, 3, 12, 12),), dynamic_shapes=dynamic)
    torch.export.save(program, folder / "model.pt2")
    return classifier_from_export(folder / "model.pt2", "net", "1")


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Dropped, "when asked twice .*draws random numbers"),
        (DroppedAtTimes, "when asked twice .*draws random numbers"),
        (Noisy, "when asked twice .*draws random numbers"),
        (DroppedByNumPy, "when asked twice .*draws random numbers"),
        (DroppedByPython, "when asked twice .*draws random numbers"),
        (Counting, "when asked twice .*keeps something from call to call"),
        (Warming, "when asked twice .*keeps something from call to call"),
        (OtherAlone, "with other images beside it .*looks at the whole batch"),
        (OtherInMany, "with other images beside it .*looks at the whole batch"),
        (Crowded, "with other images beside it .*looks at the whole batch"),
        (Centred, "with other images beside it .*looks at the whole batch"),
        (OfBatch, "with other images beside it .*looks at the whole batch"),
        (ByPlace, "with other images beside it .*looks at the whole batch"),
        (OfSumsCentred, "with other images beside it .*looks at the whole batch"),
        (OfSumsCentredLate, "with other images beside it .*looks at the whole batch"),
        (OfSumsInFloat, "with other images beside it .*looks at the whole batch"),
    ],
)
def test_modules_that_answer_differently_are_refused(kind: type[Net], why: str) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"model {kind.__name__} .*{why}.*model.eval\(\) before log_model"):
        explain(kind(), IMAGES, [0, 1, 2])


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        (Dropped, "holds dropout in training mode"),
        (DroppedAtTimes, r"holds rand \(random numbers\)"),
        (Noisy, r"holds randn_like \(random numbers\)"),
        (Centred, "looks at the whole batch"),
        (OfBatch, "looks at the whole batch"),
        (OfSumsCentredLate, "looks at the whole batch"),
    ],
)
def test_exports_that_answer_differently_are_refused(kind: type[Net], what: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match=rf"model net/1 .*{what}.*model.eval\(\) before log_model"):
        exported(kind().eval(), tmp_path).logits(IMAGES, ("a", "b", "c"))


@pytest.mark.parametrize("images", [1, 2])
def test_exports_in_training_mode_are_refused_as_they_are_loaded(images: int, tmp_path: Path) -> None:
    what = "holds batch_norm in training mode and dropout in training mode; call model.eval"
    with pytest.raises(UnsupportedModelError, match=what):
        exported(Net().train(), tmp_path, images)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        *((kind, torch.float32) for kind in (Net, OfImage, Undropped, Seeded, Squeezed, CountedBatches)),
        (Net, torch.bfloat16),
    ],
)
def test_honest_modules_pass_whatever_mode_they_are_in(kind: type[Net], dtype: torch.dtype) -> None:
    assert explain(kind().train().to(dtype), IMAGES, [0, 1, 2]).values.shape[0] == 3


def test_rounding_is_told_from_other_images_in_double_precision() -> None:
    """In float32 the answers do move, by more than honest networks round; maps are given all the same."""
    net, images = OfSums().eval(), torch.from_numpy(IMAGES)
    moved, largest = (net(images)[1:] - net(images[1:])).abs().max(), net(images).abs().max()
    assert moved > 10 * TOLERANCE * largest
    double = net.double()
    assert (double(images.double())[1:] - double(images[1:].double())).abs().max() < TOLERANCE / 10 * largest
    assert explain(net.float(), IMAGES, [0, 1, 2]).values.shape[0] == 3


@pytest.mark.parametrize("kind", [Net, OfImage, OfSums])
def test_honest_exports_pass(kind: type[Net], tmp_path: Path) -> None:
    assert exported(kind().eval(), tmp_path).logits(IMAGES, ("a", "b", "c")).shape == (3, 3)


def test_every_door_of_the_python_api_asks() -> None:
    with pytest.raises(UnsupportedModelError, match="when asked twice"):
        assess(Dropped(), IMAGES, [0, 1, 2], checks=[])
    with pytest.raises(UnsupportedModelError, match=r"model second .*when asked twice"):
        explain_difference(Net(), Dropped(), IMAGES, [0, 1, 2])


def test_asking_costs_a_few_images(tmp_path: Path) -> None:
    seen: list[int] = []
    module = Net()
    module.before = lambda images: seen.append(len(images)) or images
    classifier = Classifier("net", "1", module)
    classifier.working_copy(IMAGES)
    assert sum(seen) <= 2 + 2 * 4 + 4 + 32, "one probe, questions, what finds the outputs' scale, one whole batch"
