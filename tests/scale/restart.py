"""kill -9 in the middle of many shards, and again: what was complete is not computed again."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from page import note, put, software, table

import attrail_flows  # noqa: F401 - telemetry off before MLflow and Prefect are imported

WORKERS = 2
KILLED_AT = 20  # complete files, of about a hundred


def measure_restart(folder: Path, images: int) -> None:
    import serving
    import staged

    place = staged.tiny(folder, 1)
    place.write_config("none.csv", ["gradcam"])
    with serving.prefect_server(folder):
        command = [sys.executable, __file__, str(folder), str(images)]
        known = _killed(command, place.uri)
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    counts = json.loads(done.stdout.splitlines()[-1])
    _say(images, known, counts, _complete(place.uri))


def _killed(command: list[str], uri: str) -> int:
    """Begin, and kill every process of it once some files are complete; how many were then."""
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None and sum(_complete(uri).values()) < KILLED_AT:
        time.sleep(0.2)
    if process.poll() is not None:
        sys.exit("it ended before it was killed")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return sum(_complete(uri).values())


def _complete(uri: str) -> dict[str, int]:
    """Complete files of each MLflow run, the oldest run first."""
    import mlflow

    from attrail_mlflow.registry.tags import ATTRIBUTIONS_TAG
    from attrail_mlflow.runs.attribution_store import KEPT

    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("attrail")
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"]) if experiment else []
    return {
        run.info.run_id: sum(name.startswith(KEPT) for name in run.data.tags)
        for run in runs
        if ATTRIBUTIONS_TAG in run.data.tags
    }


def _say(images: int, known: int, counts: Mapping[str, int], files: Mapping[str, int]) -> None:
    shards = counts["shards"]
    after = list(files.values())[-1]
    again = known + after - shards
    rows = [
        ("shards of the whole", shards),
        ("complete when every process was killed", known),
        ("computed by the second run", after),
        ("complete ones that were computed again", again),
        ("begun and lost, at most one per worker", f"<= {WORKERS}"),
    ]
    head = (
        f"{images:,} images of 16x16 pixels through a tiny model, Grad-CAM, {WORKERS} processes; `kill -9` of the flow "
        "and its workers at once, then the same again."
    )
    put({"After kill -9": f"{head}\n\n{table(('', 'shards'), rows)}\n\n{software()}"})
    note("restart", {"images": images, "shards": shards, "known": known, "after": after, "again": again})
    print(table(("", "shards"), rows))


def explained(folder: str, images: int) -> int:
    """Explain the tiny model's version on noise in two processes; the number of its shards.

    All it needs is made here: what a flow holds is sent to its workers.
    """
    import numpy as np
    import staged

    from attrail_explainers.slice import Slice
    from attrail_flows.configuration import read_config
    from attrail_flows.engine.session import explaining
    from attrail_mlflow.registry.registry import Registry

    place = staged.Staged(Path(folder), "tiny")
    names = tuple(f"{row:06d}" for row in range(images))
    slice_ = Slice("noise", staged.noise(images), np.arange(images) % 10, names, staged.TINY)
    config = read_config(place.config).run_with("processes", WORKERS)
    registry = Registry(place.uri)
    with explaining(registry, config, "restart") as how:
        found = how.explain(registry.resolve("tiny", "1"), [slice_], None, lambda maps: None)
    (made,) = found.made_in.values()
    return 2 * sum(made.values())  # of logits as many as of maps: both have the largest size


if __name__ == "__main__":
    from prefect import flow

    print(json.dumps({"shards": flow(explained)(sys.argv[1], int(sys.argv[2]))}))
