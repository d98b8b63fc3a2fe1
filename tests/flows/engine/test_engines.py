"""Threads, processes, Ray and Dask: the same flow and the same bytes."""

import importlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow, task
from prefect.task_runners import TaskRunner

from attrail_explainers.errors import ConfigError
from attrail_flows.configuration import read_config
from attrail_flows.engine import task_engine, task_runners
from attrail_flows.engine.task_runners import Load
from attrail_flows.sections import RunSection

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


@pytest.fixture(scope="session")
def by_one_thread() -> dict[str, dict]:
    """What one thread made, audited once for all engines."""
    return {}


@pytest.mark.parametrize("runner", ["processes", *(pytest.param(each, marks=pytest.mark.slow) for each in OPTIONAL)])
def test_every_engine_makes_the_bytes_of_one_thread(
    audited: Callable[[Path, str, str], dict],
    by_one_thread: dict[str, dict],
    workplace,
    runner: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    config = workplace.config(floor=[], policy="margins = {}", explainers=EXPLAINERS, slice="limit = 24")
    if not by_one_thread:
        by_one_thread |= audited(config, "threads", "1")
    one, other = by_one_thread, audited(config, runner, "2")
    assert one["run_id"] != other["run_id"]
    for each in (*one["slices"], *other["slices"]):
        each.pop("source", None)  # every test has a folder of its own
    for what in ("maps", "measurements", "slices", "verdict"):
        assert other[what] == one[what]
    runs = [{run for made in document["made_in"].values() for run in made} for document in (one, other)]
    assert not runs[0] & runs[1], "nothing was taken from the other"


def test_one_thread_and_as_many_processes_as_processors_unless_told() -> None:
    assert task_runners.workers(RunSection()) == 1
    assert task_runners.workers(RunSection(runner="processes")) == len(os.sched_getaffinity(0))
    assert task_runners.workers(RunSection(workers=3)) == 3


def test_auto_starts_processes_only_where_they_are_worth_it() -> None:
    auto = RunSection(runner="auto", workers=2)
    long, short = Load(10 * task_runners.WORTH), Load(task_runners.WORTH / 2)
    assert task_runners.chosen(auto, long) == RunSection(runner="processes", workers=2)
    assert task_runners.chosen(auto, short, started=True).runner == "processes", "they are there already"
    one_thread = RunSection(runner="threads", workers=1)
    for section, load in ((auto, short), (auto, Load(1e6, "cuda")), (RunSection(runner="auto", workers=1), long)):
        assert task_runners.chosen(section, load) == one_thread
    for named in ("threads", "processes", "ray", "dask"):
        section = RunSection(runner=named)
        assert task_runners.chosen(section, long) == section


def test_commands_start_processes_by_themselves_and_calls_of_a_flow_do_not(workplace) -> None:
    silent, named = (workplace.config(policy=more) for more in ("", "[run]\nworkers = 2"))
    assert read_config(silent).run.runner == "threads"
    for path in (silent, named):
        assert read_config(path).run_by_command().run.runner == "auto"
        assert read_config(path).run_by_command("ray").run.runner == "ray"
    stated = read_config(workplace.config(policy='[run]\nrunner = "threads"')).run_by_command(None, 3, True).run
    assert (stated.runner, stated.workers, stated.fresh) == ("threads", 3, True)


@given(devices=st.integers(1, 16), share=st.floats(0.05, 1))
def test_gpus_are_never_given_more_workers_than_they_have_room_for(devices: int, share: float) -> None:
    found = task_runners.devices_fit(devices, share)
    assert found >= devices
    assert found / devices * share <= 1 + 1e-9
    assert task_runners.devices_fit(devices, 1 + share) == 0


@pytest.mark.parametrize("runner", ["threads", "processes", "dask"])
def test_a_machine_without_a_gpu_says_so_before_anything_waits(runner: str) -> None:
    section = RunSection(runner=runner, gpus=0.5)
    with pytest.raises(ConfigError, match=r"run\.gpus = 0\.5 with run\.runner = .* torch finds 0; lower run\.gpus"):
        task_runners.room(section, 0)
    assert task_runners.room(section, 4) == (8 if runner == "processes" else 2)


def test_each_process_takes_a_device_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    free: Queue[int] = Queue()
    for visible, expected in (("", ["0", "1"]), ("4,6", ["4", "6"])):
        free.put(0)
        free.put(1)
        found = []
        for _ in range(2):
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
            task_runners.take_device(free)
            found.append(os.environ["CUDA_VISIBLE_DEVICES"])
        assert found == expected


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[tuple[RunSection, TaskRunner]]:
    """A cluster of one worker that says it has one GPU, and its task runner."""
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray writes a token there
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with ExitStack() as stack:
        if request.param == "ray":
            ray = importlib.import_module("ray")
            ray.init(num_cpus=1, num_gpus=1, include_dashboard=False, log_to_driver=False)
            stack.callback(ray.shutdown)
            section = RunSection(runner="ray", workers=1, gpus=0.5)
            yield section, stack.enter_context(task_runners.RUNNERS["ray"](section))
        else:
            distributed = importlib.import_module("distributed")
            local = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None, "resources": {"GPU": 1}}
            workers = stack.enter_context(distributed.LocalCluster(**local, processes=False, silence_logs=50))
            section = RunSection(runner="dask", gpus=0.5, address=workers.scheduler_address)
            yield section, stack.enter_context(task_runners.RUNNERS["dask"](section))


@pytest.mark.parametrize("cluster", OPTIONAL, indirect=True)
def test_a_share_of_a_gpu_that_no_worker_has_is_told_before_it_waits(cluster: tuple[RunSection, TaskRunner]) -> None:
    section, runner = cluster
    task_runners.require_gpus(section, runner)
    with pytest.raises(ConfigError, match=r"run\.gpus = 2, but no worker of the (ray|dask) cluster has more than 1"):
        task_runners.require_gpus(section.model_copy(update={"gpus": 2.0}), runner)


@pytest.mark.parametrize("cluster", [each for each in OPTIONAL if each == "ray"], indirect=True)
def test_shards_take_their_share_of_a_gpu_from_ray(
    prefect_server: None, cluster: tuple[RunSection, TaskRunner]
) -> None:
    section, runner = cluster

    @task
    def held() -> float:
        return importlib.import_module("ray").get_runtime_context().get_assigned_resources()["GPU"]

    @flow
    def claimed() -> float:
        with task_runners.claiming(section):
            return runner.submit(held, {}).result()

    assert claimed() == 0.5


@pytest.mark.parametrize("cluster", [each for each in OPTIONAL if each == "dask"], indirect=True)
def test_shards_take_their_share_of_a_gpu_from_dask(cluster: tuple[RunSection, TaskRunner]) -> None:
    section, _ = cluster

    def held() -> float:
        state = importlib.import_module("distributed").get_worker().state
        return state.total_resources["GPU"] - state.available_resources["GPU"]

    with importlib.import_module("distributed").Client(section.address) as client:
        assert client.submit(held).result() == 0
        with task_runners.claiming(section):
            assert client.submit(held, pure=False).result() == 0.5


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

    monkeypatch.setattr(task_runners.importlib, "import_module", missing)
    with pytest.raises(ConfigError, match=rf"run.runner = \"{extra}\".*prefect_{extra}.*attrail\[{extra}\]"):
        task_runners.RUNNERS[extra](RunSection(runner=extra))


def test_no_shard_no_worker() -> None:
    with task_engine.Engine(RunSection(runner="processes")) as started:
        assert list(started.compute([])) == []
        assert started._running == {}
