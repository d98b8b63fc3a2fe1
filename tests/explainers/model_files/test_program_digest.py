"""A model is what it computes: the same module logged twice is one model, the same weights with other code another."""

import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as everybody calls it
from torch import nn

from attrail_explainers.digest import digest_of_file
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export, classifier_from_pickle
from attrail_explainers.model_files.program_digest import program_digest
from attrail_explainers.runtime.machine import machine_of

IMAGES = np.random.default_rng(0).normal(size=(3, 3, 12, 12)).astype(np.float32)


class Net(nn.Module):
    """A classifier of four classes whose weights never change, whatever it does with them."""

    def __init__(self, **changes: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.convolution, self.norm = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, eps=changes.get("eps", 1e-5))
        self.head = nn.Linear(8, 4)
        self.register_buffer("gain", torch.full((4,), changes.get("gain", 1.0)), persistent=False)
        self.changes = changes

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        changes = self.changes
        images = images.flip(-1) if "flipped" in changes else images
        images = F.interpolate(images, size=(9, 9), mode=changes.get("mode", "bilinear"))
        found = changes.get("activation", F.gelu)(self.norm(self.convolution(images))).mean((2, 3))
        logits = self.head(found) * self.gain * changes.get("factor", 2.0)
        logits = logits + torch.tensor([changes.get("constant", 1.0), 0.0, 0.0, 0.0])
        return logits.flip(1) if "turned" in changes else logits


def logged(module: nn.Module, name: str = "net", images: int = 2) -> Classifier:
    dynamic = ({0: torch.export.Dim.AUTO},) if images > 1 else None
    program = torch.export.export(module.eval(), (torch.zeros(images, 3, 12, 12),), dynamic_shapes=dynamic)
    with TemporaryDirectory() as folder:
        path = Path(folder, "model.pt2")
        torch.export.save(program, path)
        return classifier_from_export(path, name, "1")


@cache
def champion() -> Classifier:
    return logged(Net())


def test_the_same_module_logged_twice_is_one_model() -> None:
    other = logged(Net(), "other")
    assert other.program_digest == champion().program_digest
    assert other.weights_digest == champion().weights_digest


@pytest.mark.parametrize(
    "change",
    [
        {"flipped": True},
        {"turned": True},
        {"activation": F.relu},
        {"activation": partial(F.gelu, approximate="tanh")},
        {"eps": 1e-3},
        {"gain": 2.0},
        {"factor": 2.5},
        {"factor": 2},
        {"constant": 3.0},
        {"mode": "nearest"},
    ],
    ids=lambda change: "-".join(str(getattr(each, "__name__", each)) for each in next(iter(change.items())))[:20],
)
def test_the_same_weights_with_another_program_are_another_model(change: dict[str, Any]) -> None:
    other = logged(Net(**change))
    assert other.weights_digest == champion().weights_digest
    assert other.program_digest != champion().program_digest


def test_the_weights_are_counted_by_their_own_digest() -> None:
    trained = Net()
    with torch.no_grad():
        trained.head.bias.add_(1)
    other = logged(trained)
    assert other.program_digest == champion().program_digest
    assert other.weights_digest != champion().weights_digest


def test_tied_and_unused_weights_and_a_fixed_batch_count() -> None:
    tied, apart = Net(), Net()
    for each in (tied, apart):
        each.second = nn.Linear(4, 4)
        each.third = nn.Linear(4, 4)
        each.third.load_state_dict(each.second.state_dict())
        each.forward = lambda images, each=each: each.third(each.second(Net.forward(each, images)))
    tied.third.weight = tied.second.weight
    found = {logged(each).program_digest for each in (tied, apart)}
    assert len(found | {champion().program_digest, logged(Net(), images=1).program_digest}) == 4


def test_control_flow_inside_the_program_counts() -> None:
    class Branching(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            pooled = images.mean((2, 3))
            return torch.cond(pooled.sum() > 0, lambda found: found * self.factor, lambda found: found - 1, (pooled,))

    programs = [torch.export.export(Branching(factor), (torch.ones(2, 3, 4, 4),)) for factor in (2.0, 2.0, 3.0)]
    first, again, other = (program_digest(each, ()) for each in programs)
    assert first is not None
    assert first == again != other


def test_a_part_that_is_not_certain_makes_it_the_file() -> None:
    program = torch.export.export(Net().eval(), (torch.zeros(2, 3, 12, 12),))
    program.constants["strange"] = object()
    assert program_digest(program, ()) is None


def test_an_export_nobody_can_write_down_is_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt2"
    torch.export.save(torch.export.export(Net().eval(), (torch.zeros(2, 3, 12, 12),)), path)
    monkeypatch.setattr("attrail_explainers.model.loading.program_digest", lambda program, weights: None)
    assert classifier_from_export(path, "net", "1").program_digest == digest_of_file(path)


def test_a_pickle_is_its_file_and_the_code_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle
    import sys

    code = "from torch import nn\nclass Tiny(nn.Linear):\n    pass\n"
    (tmp_path / "tiny_net.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    import tiny_net

    path = tmp_path / "model.pth"
    torch.save(tiny_net.Tiny(2, 2), path)
    digest: Callable[[], str | None] = lambda: classifier_from_pickle(path, pickle, "tiny", "1").program_digest  # noqa: E731
    first = digest()
    assert first == digest() is not None
    (tmp_path / "tiny_net.py").write_text(code + "# other code\n")
    changed = digest()
    torch.save(tiny_net.Tiny(2, 2), path)
    assert len({first, changed, digest()}) == 3
    del sys.modules["tiny_net"]


def test_a_live_module_is_never_taken_for_another() -> None:
    assert Classifier("net", "1", Net()).program_digest is None


def test_identity_takes_no_time() -> None:
    import timm

    module = timm.create_model("efficientnet_lite0", pretrained=False).eval()
    start = time.thread_time()
    program = torch.export.export(module, (torch.zeros(2, 3, 64, 64),))
    unflattened = torch.export.unflatten(program)
    exported = time.thread_time()
    found = program_digest(program, unflattened.state_dict())
    assert Classifier("lite0", "1", unflattened).weights_digest
    taken, whole = time.thread_time() - exported, exported - start
    assert taken < whole / 2, f"{taken:.2f} s, the export itself {whole:.2f} s"
    assert found is not None


def test_machines_are_told_apart_by_the_instructions_they_take(monkeypatch: pytest.MonkeyPatch) -> None:
    here = machine_of(torch.device("cpu"))
    assert here == machine_of(torch.device("cpu"))
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert machine_of(torch.device("cpu")) != here
