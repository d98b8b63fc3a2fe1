"""What processes hold and burn: memory and processor time of this one and of all that it started."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import psutil

EVERY = 2.0  # seconds between two looks at the memory, each of which takes some of the processor itself
MIB = 2**20


@dataclass
class Watch:
    """Of a block: seconds it took, processor seconds by kind of process, and the most memory of all together.

    ``driver`` is this process, ``servers`` are Prefect's and MLflow's, ``workers`` all others. Memory is the
    proportional share (PSS): pages that two processes share count once.
    """

    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    burnt: dict[str, float] = field(default_factory=dict)
    most: float = 0.0

    @property
    def mebibytes(self) -> float:
        return self.most / MIB


@contextlib.contextmanager
def watched(servers: tuple[int, ...] = ()) -> Iterator[Watch]:
    """Watch this process, its children, and the ``servers``, by process id, with theirs."""
    found, ended = Watch(), threading.Event()
    seen: dict[int, float] = {}
    before = _burnt(servers, seen)
    thread = threading.Thread(target=_look, args=(found, servers, seen, ended), daemon=True)
    thread.start()
    found.started = time.monotonic()
    try:
        yield found
    finally:
        found.seconds = time.monotonic() - found.started
        ended.set()
        thread.join()
        after = _burnt(servers, seen)
        found.burnt = {kind: after[kind] - before[kind] for kind in after}


def _look(found: Watch, servers: tuple[int, ...], seen: dict[int, float], ended: threading.Event) -> None:
    while not ended.wait(EVERY):
        found.most = max(found.most, sum(_held(each) for _, each in _every(servers)))
        _burnt(servers, seen)


def _every(servers: tuple[int, ...]) -> list[tuple[str, psutil.Process]]:
    here = psutil.Process()
    roots = [psutil.Process(each) for each in servers if psutil.pid_exists(each)]
    serving = {each.pid: each for root in roots for each in (root, *root.children(recursive=True))}
    mine = [each for each in here.children(recursive=True) if each.pid not in serving]
    every = [("driver", here), *(("servers", each) for each in serving.values())]
    return [*every, *(("workers", each) for each in mine)]


def _burnt(servers: tuple[int, ...], seen: dict[int, float]) -> dict[str, float]:
    """Processor seconds so far by kind; ``seen`` remembers those of workers that have ended."""
    total = {"driver": 0.0, "servers": 0.0, "workers": 0.0}
    for kind, each in _every(servers):
        with contextlib.suppress(psutil.Error):
            times = each.cpu_times()
            if kind == "workers":
                seen[each.pid] = times.user + times.system
            else:
                total[kind] += times.user + times.system
    total["workers"] = sum(seen.values())
    return total


def _held(process: psutil.Process) -> float:
    with contextlib.suppress(psutil.Error):
        return float(process.memory_full_info().pss)
    return 0.0
