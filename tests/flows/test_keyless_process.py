"""Models are loaded in processes that are not told where the signing key is, whenever there is one."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import mlflow
import pytest
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner

from attrail_explainers.errors import ExplanationError
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.signing.keyless_process import another_process
from attrail_mlflow.signing.keys import VARIABLES, key_hidden, signer_from_environment, signs

Run = Callable[..., tuple[int, str, str]]
OPTIONAL = [name for name in ("ray", "dask") if find_spec(f"prefect_{name}")]
GRADCAM = '[[explainer]]\nname = "gradcam"\n'


def seen() -> set[str]:
    """The key's variables, as far as this process was told them."""
    told = Path("/proc/self/environ").read_bytes().decode() if Path("/proc/self/environ").exists() else ""
    return {name for name in VARIABLES if name in os.environ or f"{name}=" in told}


def test_another_process_is_not_told(key: Path) -> None:
    with another_process() as process:
        assert process.submit(seen).result() == set()
        assert signer_from_environment() is not None, "this process still signs"
    assert os.environ["ATTRAIL_SIGNING_KEY"] == str(key)


def test_another_process_that_dies_is_told_in_a_sentence() -> None:
    with pytest.raises(ExplanationError, match="ended before it answered"), another_process() as process:
        process.submit(os._exit, 1).result()


def test_a_script_without_a_guard_is_not_run_again(key: Path, tmp_path: Path) -> None:
    """As multiprocessing's own processes would: a script that trains would train once more."""
    (tmp_path / "script.py").write_text(
        "from attrail_mlflow.signing.keyless_process import call_apart\n"
        "from attrail_mlflow.signing.keys import signs\n"
        "print('run', signs(), call_apart(True, signs))\n"
    )
    found = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert found.stdout == "run True False\n"


def test_nor_do_the_workers_of_a_flow_run_it(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import multiprocessing, os\n"
        "from concurrent.futures import ProcessPoolExecutor\n"
        "from types import SimpleNamespace\n"
        "from attrail_flows.configuration import RunSection\n"
        "from attrail_flows.engine.session import explaining\n"
        "config = SimpleNamespace(run=RunSection(), policy=SimpleNamespace(allow_pickle=False))\n"
        "with explaining(None, config, 'one'), explaining(None, config, 'another'):\n"
        "    with ProcessPoolExecutor(1, multiprocessing.get_context('spawn')) as process:\n"
        "        print('run', process.submit(os.getppid).result() == os.getpid(), flush=True)\n"
        "print(__spec__)\n"
    )
    found = subprocess.run([sys.executable, tmp_path / "script.py"], capture_output=True, text=True, check=True)
    assert found.stdout == "run True\nNone\n"


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


@pytest.mark.parametrize("command", ["baseline", "explain", "check", "windows"])
def test_the_process_that_signs_loads_no_model(
    attrail: Run, workplace, key: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    second = '[[slice]]\nname = "later"\nsource = "slices/validation.csv"\nlimit = 8\n'
    windows = {"slice": f"limit = 8\n{second}"} if command == "windows" else {"slice": "limit = 8"}
    config = workplace.config(explainers=GRADCAM, floor=[], policy="margins = {}", **windows)
    one = ("--slice", "validation", "--explainer", "gradcam", "--out", workplace.folder / "out")
    arguments = {
        "baseline": ("models:/digits/1",),
        "explain": ("models:/digits/1", *one),
        "check": ("models:/digits/1", *one, "--check", "random_head"),
        "windows": ("models:/digits/1", "--first", "validation", "--second", "later", "--explainer", "gradcam"),
    }[command]
    monkeypatch.setattr(Registry, "load", None)
    status, out, err = attrail(command, *arguments, "--config", config)
    assert status in (0, 3), err
    assert out


@pytest.mark.parametrize("runner", ["threads", *(pytest.param(name, marks=pytest.mark.slow) for name in OPTIONAL)])
def test_what_opens_a_model_is_not_told_where_the_key_is(
    attrail: Run, workplace, key: Path, witness: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, runner: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setattr(Registry, "load", None)
    config = workplace.config(explainers=GRADCAM, floor=[], policy="margins = {}", slice="limit = 8")
    status, _, err = attrail("audit", "--config", config, "--runner", runner, "--workers", "1", "--fresh")
    assert status in (0, 1, 3), err
    opened = {tuple(line.split()) for line in witness.read_text().splitlines()}
    assert {len(line) for line in opened} == {1}, "a process number and no variable"
    assert str(os.getpid()) not in {line[0] for line in opened}
    run = workplace.runs()[0]
    path = mlflow.artifacts.download_artifacts(
        run_id=run.info.run_id, artifact_path="attrail/statement.json", tracking_uri=workplace.tracking_uri
    )
    assert json.loads(Path(path).read_text())["signatures"]
