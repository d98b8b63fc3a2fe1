"""Task runners: what an engine's workers run on, how many there are, and what each takes of the GPUs."""

import contextlib
import importlib
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import joblib  # type: ignore[import-untyped]  # its count of cores knows a container's limits
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from attrail_explainers.errors import ConfigError
from attrail_explainers.runtime.gpu import find_gpus
from attrail_flows.sections import RunSection

WORTH = 60.0  # seconds of one core: two processes take about ten to start, and save half of the rest


@dataclass(frozen=True)
class Load:
    """What is to be computed: about how many ``seconds`` one core takes, and the kind of ``device`` it is done on."""

    seconds: float = 0.0
    device: str = "cpu"


def chosen(section: RunSection, load: Load, started: bool = False) -> RunSection:
    """The section with a runner in the place of "auto": processes where they are worth their start, else one thread.

    ``started``: processes are there already.
    """
    if section.runner != "auto":
        return section
    processes = section.model_copy(update={"runner": "processes"})
    worth = started or load.seconds > WORTH
    if worth and load.device == "cpu" and workers(processes) > 1:
        return processes
    return section.model_copy(update={"runner": "threads", "workers": 1})


def apart_from_here(section: RunSection) -> RunSection:
    """The section with processes in the place of threads: one where it says "threads" or a GPU is shared, else many."""
    if section.runner not in {"auto", "threads"}:
        return section
    alone = section.runner == "threads" or bool(find_gpus().names)
    found = section.model_copy(update={"runner": "processes"})
    return found.model_copy(update={"workers": section.workers or 1}) if alone else found


def workers(section: RunSection) -> int:
    """The configured number of workers, else one thread, or one process for each processor that this one may use.

    Every worker computes in one thread with a model of its own, and threads of one process hold each other up. Here,
    no more than the GPUs have room for. Raises ConfigError when they have room for none.
    """
    wanted = section.workers or (1 if section.runner == "threads" else joblib.cpu_count())
    if not section.gpus or section.address or section.runner == "ray":
        return wanted
    return min(wanted, room(section, len(find_gpus().names)))


def room(section: RunSection, devices: int) -> int:
    """How many workers the GPUs of this machine have room for; ConfigError when for none.

    Threads, and the processes that Dask starts here, see all devices and use the first; processes get one each.
    """
    used = devices if section.runner == "processes" else min(devices, 1)
    fitting = devices_fit(used, section.gpus)
    if not fitting:
        raise ConfigError(
            f"run.gpus = {section.gpus:g} with run.runner = {section.runner!r}: a worker can be given at most one GPU "
            f"here, torch finds {devices}; lower run.gpus, leave it out, or give run.address of a cluster that has some"
        )
    return fitting


def devices_fit(devices: int, share: float) -> int:
    """How many workers that take ``share`` of a device each fit on the devices; none takes more than one."""
    return devices * math.floor(1 / share) if share <= 1 else 0


@contextlib.contextmanager
def claiming(section: RunSection) -> Iterator[None]:
    """What is submitted to Ray or Dask in the block waits for its share of a GPU, which the cluster gives it."""
    if section.gpus and section.runner == "ray":
        with importlib.import_module("prefect_ray.context").remote_options(num_gpus=section.gpus):
            yield
    elif section.gpus and section.runner == "dask":
        with importlib.import_module("dask").annotate(resources={"GPU": section.gpus}):
            yield
    else:
        yield


def require_gpus(section: RunSection, runner: TaskRunner[Any]) -> None:
    """Raise ConfigError when no worker of the cluster has the GPUs that are claimed: the claim would wait for ever."""
    if not section.gpus or section.runner not in FOUND:
        return
    most = FOUND[section.runner](runner)
    if most < section.gpus:
        raise ConfigError(
            f"run.gpus = {section.gpus:g}, but no worker of the {section.runner} cluster has more than {most:g}: lower "
            "it, or start workers that say what they have (ray start --num-gpus=1; dask worker --resources GPU=1)"
        )


def _gpus_of_ray(runner: TaskRunner[Any]) -> float:
    nodes = importlib.import_module("ray").nodes()
    return max((each["Resources"].get("GPU", 0.0) for each in nodes if each["Alive"]), default=0.0)


def _gpus_of_dask(runner: TaskRunner[Any]) -> float:
    client: Any = getattr(runner, "client", None)
    found = client.scheduler_info(n_workers=-1)["workers"].values()
    return max((each["resources"].get("GPU", 0.0) for each in found), default=0.0)


def _threads(section: RunSection) -> TaskRunner[Any]:
    return ThreadPoolTaskRunner(max_workers=workers(section))


def _processes(section: RunSection) -> TaskRunner[Any]:
    count = workers(section)
    if not section.gpus:
        return ProcessPoolTaskRunner(max_workers=count)
    free = multiprocessing.get_context("spawn").SimpleQueue()
    devices = len(find_gpus().names)
    for number in range(count):
        free.put(number % devices)
    return ProcessPoolTaskRunner(max_workers=count, initializer=take_device, initargs=(free,))


def take_device(free: Any) -> None:
    """Let this process see the one device that is next in a queue of numbers, before it asks CUDA for any."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    known = [each for each in visible.split(",") if each]
    number = int(free.get())
    os.environ["CUDA_VISIBLE_DEVICES"] = known[number] if known else str(number)


def _ray(section: RunSection) -> TaskRunner[Any]:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    local = {"num_cpus": workers(section), "include_dashboard": False, "log_to_driver": False}
    return _cluster("ray", "RayTaskRunner", section, init_kwargs=local)


def _dask(section: RunSection) -> TaskRunner[Any]:
    local: dict[str, Any] = {"threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    if not section.address:
        local |= {"n_workers": workers(section), "resources": {"GPU": section.gpus} if section.gpus else None}
    return _cluster("dask", "DaskTaskRunner", section, cluster_kwargs=local)


def _cluster(extra: str, name: str, section: RunSection, **local: Any) -> TaskRunner[Any]:
    """The task runner of an optional package, at the configured address or with a cluster of its own."""
    try:
        make = getattr(importlib.import_module(f"prefect_{extra}"), name)
    except ImportError as error:
        raise ConfigError(f'run.runner = "{extra}" needs more packages: {error}; install attrail[{extra}]') from error
    runner: TaskRunner[Any] = make(address=section.address) if section.address else make(**local)
    return runner


RUNNERS: dict[str, Callable[[RunSection], TaskRunner[Any]]] = {
    "threads": _threads,
    "processes": _processes,
    "ray": _ray,
    "dask": _dask,
}
FOUND: dict[str, Callable[[TaskRunner[Any]], float]] = {"ray": _gpus_of_ray, "dask": _gpus_of_dask}
