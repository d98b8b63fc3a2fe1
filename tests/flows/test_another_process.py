"""Models are loaded in processes that are not told where the signing key is, whenever there is one."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner

from attrail_flows.another_process import another_process
from attrail_mlflow.keys import VARIABLES, key_hidden, new_key, signer_from_environment, signs
from attrail_mlflow.registry import Registry

Run = Callable[..., tuple[int, str, str]]
GRADCAM = '[[explainer]]\nname = "gradcam"\n'


def seen() -> set[str]:
    """The key's variables, as far as this process was told them."""
    told = Path("/proc/self/environ").read_bytes().decode() if Path("/proc/self/environ").exists() else ""
    return {name for name in VARIABLES if name in os.environ or f"{name}=" in told}


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    new_key(tmp_path / "keys" / "audit", b"open sesame")
    monkeypatch.setenv("ATTRAIL_SIGNING_KEY", str(tmp_path / "keys" / "audit"))
    monkeypatch.setenv("ATTRAIL_SIGNING_PASSPHRASE", "open sesame")
    return tmp_path / "keys" / "audit"


def test_another_process_is_not_told(key: Path) -> None:
    with another_process() as process:
        assert process.submit(seen).result() == set()
        assert signer_from_environment() is not None, "this process still signs"
    assert os.environ["ATTRAIL_SIGNING_KEY"] == str(key)


def test_workers_of_a_flow_are_not_told(key: Path, prefect_server: None) -> None:
    @flow
    def asking() -> set[str]:
        with key_hidden(), ProcessPoolTaskRunner(max_workers=1) as runner:
            return runner.submit(task(seen), {}).result()

    assert asking() == set()


def test_blocks_may_overlap(key: Path) -> None:
    first, second = key_hidden(), key_hidden()
    for step in (first.__enter__, second.__enter__):
        step()
        assert "ATTRAIL_SIGNING_KEY" not in os.environ
        assert signs()
    first.__exit__(None, None, None)
    assert "ATTRAIL_SIGNING_KEY" not in os.environ
    assert signs()
    second.__exit__(None, None, None)
    assert os.environ["ATTRAIL_SIGNING_KEY"] == str(key)


def test_many_threads_lose_nothing(key: Path) -> None:
    def hide(_: int) -> bool:
        with key_hidden():
            return signs() and "ATTRAIL_SIGNING_KEY" not in os.environ

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(hide, range(500)))
    assert os.environ["ATTRAIL_SIGNING_PASSPHRASE"] == "open sesame"


@pytest.mark.parametrize("command", ["audit", "baseline", "explain", "check", "windows"])
def test_the_process_that_signs_loads_no_model(
    attrail: Run, workplace, key: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    second = '[[slice]]\nname = "later"\nsource = "slices/validation.csv"\nlimit = 8\n'
    windows = {"slice": f"limit = 8\n{second}"} if command == "windows" else {"slice": "limit = 8"}
    config = workplace.config(explainers=GRADCAM, floor=[], policy="margins = {}", **windows)
    one = ("--slice", "validation", "--explainer", "gradcam", "--out", workplace.folder / "out")
    arguments = {
        "audit": ("--runner", "threads"),
        "baseline": ("models:/digits/1",),
        "explain": ("models:/digits/1", *one),
        "check": ("models:/digits/1", *one, "--check", "random_head"),
        "windows": ("models:/digits/1", "--first", "validation", "--second", "later", "--explainer", "gradcam"),
    }[command]
    monkeypatch.setattr(Registry, "load", None)
    status, out, err = attrail(command, *arguments, "--config", config)
    assert status in (0, 3), err
    assert out
