"""Threads, processes, Ray and Dask: the same flow and the same bytes."""

import json
import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from attrail_explainers.errors import ConfigError
from attrail_flows import engine
from attrail_flows.configuration import RunSection, read_config

Run = Callable[..., tuple[int, str, str]]
OPTIONAL = [name for name in ("ray", "dask") if find_spec(f"prefect_{name}")]
EXPLAINERS = '[[explainer]]\nname = "gradcam"\n[[explainer]]\nname = "shap"\nevaluations = 32\n'


@pytest.fixture(scope="session")
def audited(attrail: Run, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str, str], dict]:
    """The audit of digits/7 on an engine, all of it computed anew."""

    def audit(config: Path, runner: str, workers: str) -> dict:
        result = tmp_path_factory.mktemp(runner) / "result.json"
        chosen = ["--runner", runner, "--workers", workers, "--fresh", "--json", result]
        status, _, err = attrail("audit", "--config", config, *chosen)
        assert result.exists(), err
        assert status in (0, 1, 3)
        return json.loads(result.read_text())

    return audit


@pytest.mark.parametrize("runner", ["processes", *OPTIONAL])
def test_every_engine_makes_the_bytes_of_one_thread(
    audited: Callable[[Path, str, str], dict], workplace, runner: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    config = workplace.config(floor=[], policy="margins = {}", explainers=EXPLAINERS)
    one, other = audited(config, "threads", "1"), audited(config, runner, "2")
    assert one["run_id"] != other["run_id"]
    for what in ("maps", "measurements", "slices", "verdict"):
        assert other[what] == one[what]
    runs = [{run for made in document["made_in"].values() for run in made} for document in (one, other)]
    assert not runs[0] & runs[1], "nothing was taken from the other"


def test_one_thread_and_as_many_processes_as_processors_unless_told() -> None:
    assert engine.workers(RunSection()) == 1
    assert engine.workers(RunSection(runner="processes")) == len(os.sched_getaffinity(0))
    assert engine.workers(RunSection(workers=3)) == 3


def test_the_file_and_the_command_line_choose(workplace) -> None:
    path = workplace.config(policy='[run]\nrunner = "processes"\nworkers = 2')
    config = read_config(path)
    assert (config.run.runner, config.run.workers, config.run.fresh) == ("processes", 2, False)
    told = config.run_with("threads", None, True).run
    assert (told.runner, told.workers, told.fresh) == ("threads", 2, True)
    assert config.run_with() == config


@pytest.mark.parametrize("extra", ["ray", "dask"])
def test_a_missing_package_is_named_with_what_to_install(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(engine.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=rf"run.runner = \"{extra}\".*prefect_{extra}.*attrail\[{extra}\]"):
        engine.RUNNERS[extra](RunSection(runner=extra))


def test_no_shard_no_worker() -> None:
    with engine.Engine(RunSection(runner="processes")) as started:
        assert list(started.compute([])) == []
        assert started._runner is None
