"""Memory of whole audits of many small images, by phase: the process's own, which the system cannot take back."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from page import measured, note, put, software, table

import attrail_flows  # noqa: F401 - telemetry off before MLflow and Prefect are imported

SIZES = (0.1, 0.3, 1.0)  # of the images
EVERY = 0.2  # seconds
PHASES = {  # task's name up to the first dash: what it does
    "validate": "read and decode the slice",
    "explain": "explain a version",
    "measure floor": "rehearse, keep the calibration",
    "compare": "measure",
    "judge": "judge",
    "between": "clusters, images that moved most",
    "record": "evidence, report, upload",
}


def measure_memory(folder: Path, images: int) -> None:
    for share in SIZES:
        count = round(images * share)
        command = [sys.executable, __file__, str(folder / str(count)), str(count)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        facts = json.loads(done.stdout.splitlines()[-1])
        note("memory", measured().get("memory", {}) | {str(count): facts})
        print(facts, flush=True)
    _say(measured()["memory"])


def _say(found: Mapping[str, Mapping[str, Any]]) -> None:
    sizes = sorted(int(each) for each in found)
    phases = [each for each in ("start", *PHASES) if all(each in found[str(size)]["MiB"] for size in sizes)]
    rows = []
    for phase in phases:
        held = [found[str(size)]["MiB"][phase] for size in sizes]
        slope = np.polyfit(sizes, held, 1)[0] * 2**20
        seconds = [found[str(size)]["seconds"].get(phase, 0.0) for size in sizes]
        rows.append(
            [
                PHASES.get(phase, "before the audit"),
                *(f"{each:.0f}" for each in held),
                f"{slope:.0f}",
                f"{seconds[-1]:.0f}",
            ]
        )
    heads = ["phase", *(f"{size:,} images, MiB" for size in sizes), "bytes per image", f"seconds, {sizes[-1]:,}"]
    head = (
        "The whole `audit` flow, one process, one thread, standing Prefect server, images of 16x16 pixels, a tiny "
        "model, Grad-CAM (maps of 3x3), no noise floor. The most memory of the process's own (RssAnon) in each phase; "
        "images and maps lie in files that the system keeps in memory as it likes."
    )
    put({"Memory": f"{head}\n\n{table(heads, rows)}\n\n{software()}"})
    print(table(heads, rows))


def audited(folder: Path, images: int) -> dict[str, Any]:
    """One audit in this process: the most memory and the seconds of every phase."""
    import serving
    import staged

    folder.mkdir(parents=True)
    place = staged.tiny(folder, 2, images)
    place.write_config("validation.csv", ["gradcam"])
    with serving.prefect_server(folder):
        from task_runs import task_runs

        from attrail_flows.audit import audit
        from attrail_flows.configuration import read_config

        watch = _Watch()
        started = time.monotonic()
        document = audit(read_config(place.config))
        seconds = time.monotonic() - started
        spans = list(_spans(task_runs(document["run"]["flow_run_id"])))
        watch.end()
    return {"MiB": watch.by_phase(spans), "seconds": _seconds(spans) | {"all": seconds}}


def _spans(runs: Sequence[Any]) -> Iterator[tuple[str, datetime, datetime]]:
    tasks = [each for each in runs if not each.name.startswith("shard-") and each.start_time and each.end_time]
    tasks.sort(key=lambda each: each.start_time)
    for run in tasks:
        yield run.name.rsplit("-", 1)[0], run.start_time, run.end_time
    judged, recorded = (next(each for each in tasks if each.name.startswith(name)) for name in ("judge", "record"))
    yield "between", judged.end_time, recorded.start_time


def _seconds(spans: Sequence[tuple[str, datetime, datetime]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for name, start, end in spans:
        found[_phase(name)] = found.get(_phase(name), 0.0) + (end - start).total_seconds()
    return found


def _phase(name: str) -> str:
    return next((phase for phase in PHASES if name.startswith(phase)), name)


class _Watch:
    """This process's own memory, looked at all the time."""

    def __init__(self) -> None:
        self.seen: list[tuple[datetime, float]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._ended.wait(EVERY):
            self.seen.append((datetime.now(UTC), own()))

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def by_phase(self, spans: Sequence[tuple[str, datetime, datetime]]) -> dict[str, float]:
        most: dict[str, float] = {"start": self.seen[0][1]}
        for name, start, end in spans:
            inside = [held for when, held in self.seen if start <= when <= end]
            if inside:
                most[_phase(name)] = max(most.get(_phase(name), 0.0), *inside)
        return most


def own() -> float:
    """MiB of this process's own memory."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


if __name__ == "__main__":
    print(json.dumps(audited(Path(sys.argv[1]), int(sys.argv[2]))))
