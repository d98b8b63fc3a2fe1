"""Pickled modules converted by the confined process itself, and what each that cannot be is told."""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from attrail_explainers.conversion import process
from attrail_explainers.conversion.converting import REFUSALS, Conversion, convert_pickle, noise
from attrail_explainers.conversion.exporting import answer
from attrail_explainers.conversion.process import Limits
from attrail_explainers.errors import ConfigError, UnsupportedModelError

SHAPE = (3, 12, 12)
KINDS = """
import os, socket, time
from pathlib import Path
import torch
from torch import nn

class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        parts = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.net = nn.Sequential(*parts, nn.Dropout(), nn.Linear(4, 5))

    def forward(self, x):
        return self.net(x)

def failed(act):
    try:
        return 0.0 if act() else 1.0
    except OSError:
        return 1.0

class Curious(Plain):
    def __setstate__(self, state):
        super().__setstate__(state)
        file, port, variable = self.asks
        self.register_buffer("refused", torch.tensor([
            failed(lambda: Path(file).write_text("written")),
            failed(lambda: socket.create_connection(("127.0.0.1", port), timeout=5)),
            failed(lambda: os.environ.get(variable)),
            failed(lambda: [each for each in Path.home().iterdir()]),
        ]))

class Endless(Plain):
    def __setstate__(self, state):
        time.sleep(600)

class Large(Plain):
    def __setstate__(self, state):
        self.large = torch.zeros(2**40, dtype=torch.uint8)

class Gone(Plain):
    def __setstate__(self, state):
        os._exit(7)

class Named(Plain):
    def __setstate__(self, state):
        raise ModuleNotFoundError("No module named 'left_out'", name="left_out")

class Fixed(Plain):
    def forward(self, x):
        return self.net(x) + torch.zeros(int(x.shape[0]), 1)

class Single(Plain):
    def forward(self, x):
        if len(x) > 1:
            raise ValueError("one image at a time")
        return self.net(x)

class Branching(Plain):
    def forward(self, x):
        y = self.net(x)
        return y if y.sum() > 0 else -y

class Mute(Plain):
    def forward(self, x):
        return "cat"

class Renamed(Plain):
    pass
"""


@pytest.fixture
def kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Modules that somebody else wrote, importable here and in whatever is given this process's path."""
    name = f"kinds_of_modules_{os.getpid()}"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / f"{name}.py").write_text(KINDS)
    monkeypatch.syspath_prepend(tmp_path / "code")
    return __import__(name)


@pytest.fixture
def converted(tmp_path: Path) -> Callable[..., Conversion]:
    """A conversion of an object by the confined process."""

    def convert(found: Any, limits: Limits | None = None, **more: Any) -> Conversion:
        torch.save(found, tmp_path / "model.pth")
        (tmp_path / "work").mkdir()
        images = noise(SHAPE, 0)
        return convert_pickle(
            tmp_path / "model.pth", "digits", "3", images, tmp_path / "work", limits or Limits(), **more
        )

    return convert


def test_an_export_is_the_same_function_and_what_was_loaded_reached_nothing(
    kinds: Any, converted: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "told to nobody")
    curious = kinds.Curious().train()
    with socket.create_server(("127.0.0.1", 0)) as server:
        curious.asks = (str(tmp_path / "written.txt"), server.getsockname()[1], "MLFLOW_TRACKING_TOKEN")
        found = converted(curious)
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()
    assert not (tmp_path / "written.txt").exists()
    state = found.classifier.module.state_dict()
    assert state["refused"].tolist() == [1, 1, 1, 1]  # its home is its own, and empty
    assert found.training
    assert not found.confinement.lacking
    images = np.random.default_rng(5).normal(size=(3, *SHAPE)).astype(np.float32)
    expected = curious.eval()(torch.from_numpy(images)).detach().numpy()
    assert np.allclose(found.classifier.logits(images, ("a", "b", "c")), expected, atol=1e-6)
    assert torch.equal(state["net.1.running_mean"], torch.zeros(4))  # an export in training mode moves it
    assert found.classifier.batch_size is None
    assert found.outputs == (5,)
    assert found.check.difference <= 1e-4 * found.check.largest
    assert found.check.largest > 0


@pytest.mark.parametrize(
    ("kind", "limits", "said"),
    [
        ("Endless", Limits(seconds=1), "was not converted within 1 s: allow more with --seconds"),
        ("Large", Limits(memory=2**30), "needs more memory than the 1 GiB that it may take"),
        ("Gone", Limits(), "ended with status 7 before it answered"),
        ("Named", Limits(), "needs the package 'left_out', which cannot be imported here: install it, or pip install"),
    ],
)
def test_what_goes_wrong_in_the_process_is_one_sentence(
    kinds: Any, converted: Any, kind: str, limits: Limits, said: str
) -> None:
    before = threading.active_count()
    with pytest.raises(UnsupportedModelError, match=r"^model digits/3") as error:
        converted(getattr(kinds, kind)(), limits)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert threading.active_count() == before


def test_where_the_machine_cannot_confine_nothing_is_opened(
    kinds: Any, converted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    strange = "import os; os.uname = lambda: type('Uname', (), {'machine': 'riscv64'})(); "
    monkeypatch.setattr(process, "BOOT", strange + process.BOOT)
    with pytest.raises(ConfigError, match="was not opened, for this machine cannot confine it") as error:
        converted(kinds.Gone())
    assert "riscv64" in str(error.value)
    assert "--weaker-confinement" in str(error.value)


@pytest.mark.parametrize(
    ("kind", "refused", "said"),
    [
        ("Branching", "export", "data-dependent"),
        ("Mute", "outputs", "it returns no tensor"),
        ("weights", "module", ""),
        ("script", "script", ""),
        ("damaged", "load", ""),
        ("Renamed", "load", "Can't get attribute 'Renamed'"),
        ("wide", "call", "channels"),
    ],
)
def test_a_pickle_that_cannot_be_exported_says_why(
    kinds: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, refused: str, said: str
) -> None:
    model, images = tmp_path / "model.pth", tmp_path / "images.npy"
    np.save(images, noise((4, 12, 12) if kind == "wide" else SHAPE, 0))
    plain = kinds.Plain().eval()
    if kind == "script":
        torch.jit.trace(plain, torch.zeros(1, *SHAPE)).save(model)
    elif kind == "weights":
        torch.save(plain.state_dict(), model)
    else:
        torch.save(getattr(kinds, kind, plain.__class__)(), model)
    if kind == "damaged":
        model.write_bytes(model.read_bytes()[:-200])
    elif kind == "Renamed":
        monkeypatch.delattr(kinds, kind)
    found = answer(model, images, tmp_path)
    assert found["refused"] == refused in REFUSALS
    assert said in found["said"]
    assert "\n" not in found["said"]


@pytest.mark.parametrize(
    ("kind", "batch", "why"), [("Fixed", 8, "specialized it to be a constant"), ("Single", 1, "one image at a time")]
)
def test_a_module_of_one_batch_size_is_exported_for_it_and_says_why(
    kinds: Any, tmp_path: Path, kind: str, batch: int, why: str
) -> None:
    torch.save(getattr(kinds, kind)(), tmp_path / "model.pth")
    np.save(tmp_path / "images.npy", noise(SHAPE, 0))
    found = answer(tmp_path / "model.pth", tmp_path / "images.npy", tmp_path)
    assert why in found["why_fixed"]
    program = torch.export.load(tmp_path / "model.pt2")
    (given,) = [node for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    assert given.meta["val"].shape[0] == batch
