"""Kill -9: of what, and when. Every plan is drawn from a seed."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil
from restarted_services import RestartedServices

LONGEST = 8.0  # seconds after an audit went on over which random kills are drawn
EARLY = 1.5  # seconds below which a random kill does not wait until the audit goes on
POINTS = (  # what an audit reaches, in order, and how often before it is hit
    ("shard begun", 7),
    ("shard computed", 19),
    ("calibrating", 0),
    ("floor measured", 0),
    ("judged", 0),
    ("file sent", 3),
    ("evidence sent", 0),
    ("journaled", 0),
    ("version tagged", 2),
)
ORDER = [point for point, _ in POINTS]
SAID = {
    "shard begun": "while a shard was computed",
    "shard computed": "between a shard and its upload",
    "shard kept": "between two shards",
    "calibrating": "during calibration",
    "floor measured": "before the floor was kept",
    "floor sent": "while the floor was uploaded",
    "floor kept": "after calibration",
    "judged": "before the evidence was written",
    "evidence written": "before the upload of the evidence",
    "file sent": "while the evidence was uploaded",
    "sent": "during an upload",
    "evidence sent": "between upload and journal",
    "journaled": "between journal and tags",
    "version tagged": "between the version's tags and attrail.complete",
    "run tagged": "after a tag of a run",
    None: "while the flow's process started",
}


@dataclass(frozen=True)
class Kill:
    """One kill: its target, and either a point after so many of its kind, or seconds after the audit went on."""

    target: str
    point: str | None = None
    count: int = 0
    seconds: float = 0.0

    def passed(self, point: str) -> bool:
        """Whether an audit that reached ``point`` will not come to this kill's any more."""
        return self.point in ORDER and point in ORDER and ORDER.index(point) > ORDER.index(self.point)


def planned(seed: int, targets: Sequence[str], number: int) -> list[Kill]:
    """Kills of one audit: points in the order in which it reaches them, every third one at a random time instead."""
    draw = random.Random(seed)
    chosen = sorted(draw.sample(range(len(POINTS)), min(number, len(POINTS))))
    found, start = [], draw.randrange(len(targets))
    for turn, place in enumerate(chosen):
        point, count = POINTS[place]
        target = targets[(start + turn) % len(targets)]
        if turn % 3 == 2:
            found.append(Kill(target, seconds=draw.uniform(0.0, LONGEST)))
        else:
            found.append(Kill(target, point, draw.randint(0, count)))
    return found


@contextlib.contextmanager
def held(services: RestartedServices, point: str) -> Iterator[None]:
    """Whoever reaches a point waits there until the block ends."""
    file = services.faults / "hold" / point
    file.touch()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def strike(services: RestartedServices, target: str, draw: random.Random) -> str:
    """Kill -9 of a target and its restart; which processes these were."""
    return TARGETS[target](services, draw)


def flow_process(services: RestartedServices) -> psutil.Process | None:
    """The process of the flow's run, under a worker or orphaned by one."""
    for each in services.strays():
        with contextlib.suppress(psutil.Error):
            if "prefect.engine" in each.cmdline():
                return each
    return None


def _flow(services: RestartedServices, draw: random.Random) -> str:
    process = flow_process(services)
    assert process is not None
    process.kill()
    return "the flow's process"


def _shard_process(services: RestartedServices, draw: random.Random) -> str:
    process = flow_process(services)
    assert process is not None
    children = [each for each in process.children(recursive=True) if "spawn_main" in " ".join(each.cmdline())]
    draw.choice(children or [process]).kill()
    return "one of the flow's shard processes" if children else "the flow's process, before any shard's"


def _worker(services: RestartedServices, draw: random.Random) -> str:
    services.running["worker"].kill()
    services.running["worker"].wait()
    services.start("worker")
    return "the worker's process alone"


def _container(name: str) -> Callable[[RestartedServices, random.Random], str]:
    said = {"worker": "the worker with its flow", "mlflow": "MLflow, all processes", "prefect": "Prefect's server"}

    def kill(services: RestartedServices, draw: random.Random) -> str:
        services.kill_container(name)
        return said.get(name, "Postgres, all processes")

    return kill


def _mlflow_worker(services: RestartedServices, draw: random.Random) -> str:
    children = [each for each in services.tree("mlflow") if "spawn_main" in " ".join(each.cmdline())]
    assert children, [each.cmdline() for each in services.tree("mlflow")]
    draw.choice(children).kill()
    return "one of MLflow's two workers"


def _backend(services: RestartedServices, draw: random.Random) -> str:
    backends = [each for each in services.postmaster().children() if "127.0.0.1" in " ".join(each.cmdline())]
    draw.choice(backends).kill()
    return "one of Postgres' backends"


TARGETS: dict[str, Callable[[RestartedServices, random.Random], str]] = {
    "flow": _flow,
    "shard": _shard_process,
    "worker": _worker,
    "worker's container": _container("worker"),
    "mlflow": _container("mlflow"),
    "mlflow worker": _mlflow_worker,
    "postgres": _container("postgres"),
    "postgres backend": _backend,
    "prefect": _container("prefect"),
}
LOST = ("worker's container",)  # after these nobody is left to say that the flow's process died
