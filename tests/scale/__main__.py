"""What an audit costs at scale: ``python tests/scale [cache|engines|memory]``; run it on a machine with nothing else.

cache     a first and a second audit against one champion, in processes of their own and in one
engines   one version's maps on every engine that is installed, by one worker and by two
memory    a slice of 100,000 small images through a tiny model: memory held while it is explained, by images done
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import mlflow
import numpy as np
import torch
from torch import nn

import attrail_flows  # noqa: F401 - telemetry off before MLflow and Prefect are imported

sys.path.append(str(Path(__file__).resolve().parents[2] / "deploy" / "demo"))
from digits import load_scans, write_slice
from train import Recipe, log_version, trained

AUDIT = """
[registry]
tracking_uri = "sqlite:///mlflow.db"
model = "digits"
candidate = "2"

[[slice]]
name = "validation"
source = "slices/validation.csv"

[[explainer]]
name = "gradcam"

[[explainer]]
name = "shap"

[[explainer]]
name = "lime"
"""


def registered(folder: Path, images: int, versions: int) -> Path:
    """A registry with some versions of the demo's net, and a slice; the configuration's path."""
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    for experiment in ("training", "attrail"):
        mlflow.create_experiment(experiment, artifact_location=str(folder / "artifacts" / experiment))
    mlflow.set_experiment("training")
    scans = load_scans(seed=0)
    slice_ = scans[300 : 300 + images]
    write_slice(slice_, folder / "slices")
    for model in trained([Recipe(scans[:300], seed, 4, class_coded=False) for seed in range(versions)], workers=2):
        log_version(model, slice_)
    mlflow.MlflowClient().set_registered_model_alias("digits", "champion", "1")
    path = folder / "attrail.toml"
    path.write_text(AUDIT)
    return path


def measure_cache(folder: Path, images: int) -> None:
    config = registered(folder, images, 4)
    environment = os.environ | {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}

    def audit(candidate: str, *more: str) -> float:
        command = [str(Path(sys.executable).parent / "attrail"), "audit", "--config", str(config)]
        started = time.monotonic()
        done = subprocess.run([*command, "--candidate", candidate, *more], env=environment, check=False)
        if done.returncode == 2:
            sys.exit("the audit failed")
        return time.monotonic() - started

    first, second, again = audit("2"), audit("3"), audit("3")
    print(
        f"{images} images, 3 explainers, a process each: first audit {first:.1f} s, second candidate {second:.1f} s "
        f"({second / first:.2f}x), the same candidate again {again:.1f} s ({again / first:.2f}x)"
    )
    from attrail_flows.audit import audit as flow
    from attrail_flows.configuration import read_config

    os.environ |= {"PREFECT_HOME": str(folder / "prefect"), "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
    times = []
    for candidate, fresh in (("3", True), ("3", True), ("4", False)):
        started = time.monotonic()
        flow(read_config(config, candidate=candidate).run_with(fresh=fresh))
        times.append(time.monotonic() - started)
    print(
        f"in one process: first audit {times[1]:.1f} s, second candidate {times[2]:.1f} s "
        f"({times[2] / times[1]:.2f}x); both after one that started Prefect's server"
    )


def measure_engines(folder: Path, images: int) -> None:
    config_file = registered(folder, images, 2)
    from prefect import flow

    from attrail_flows.configuration import read_config
    from attrail_flows.sharded import explaining
    from attrail_flows.slices import read_slices
    from attrail_mlflow.registry import Registry

    os.environ |= {"PREFECT_HOME": str(folder / "prefect")}

    @flow
    def timed(runner: str, workers: int) -> tuple[list[float], list[str]]:
        config = read_config(config_file).run_with(runner, workers, fresh=True)
        registry = Registry(config.registry.tracking_uri)
        versions = [registry.resolve("digits", number) for number in ("1", "2")]
        slices = read_slices(config, versions[0])
        times, digests = [], []
        with explaining(registry, config, f"{runner}{workers}") as how:
            for version in versions:
                started = time.monotonic()
                found = how.explain(version, slices, None, lambda maps: None)
                times.append(time.monotonic() - started)
                digests += [each.digest for each in found.maps]
        return times, digests

    print(f"| engine | workers | first version, with start (s) | second (s) | images/s | speed-up |\n{'|---' * 6}|")
    expected, alone = None, {}
    for runner in ["threads", "processes", *(name for name in ("ray", "dask") if find_spec(f"prefect_{name}"))]:
        for workers in (1, 2):
            (first, second), digests = timed(runner, workers)
            alone.setdefault(runner, second)
            expected = expected or digests
            same = "" if digests == expected else " OTHER BYTES"
            print(
                f"| {runner} | {workers} | {first:.1f} | {second:.1f} | {images / second:.1f} | "
                f"{alone[runner] / second:.2f}x{same} |",
                flush=True,
            )


class Tiny(nn.Module):
    """Two convolutions for images of 16x16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.features(images)).flatten(1))


def held() -> tuple[float, float]:
    """Memory of this process in MiB: its own, and that of files which the system can take back at any time."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines if line.startswith("Rss")}
    return kilobytes["RssAnon"] / 1024, kilobytes["RssFile"] / 1024


def watched(work: Callable[[], object], done: list[int]) -> Iterator[tuple[int, float, float]]:
    """Images done and memory, every second while ``work`` runs."""
    thread = threading.Thread(target=work)
    thread.start()
    while thread.is_alive():
        yield (done[0], *held())
        thread.join(1)
    yield (done[0], *held())


def measure_memory(folder: Path, images: int) -> None:
    from attrail_explainers.slice import Preprocessing, Slice
    from attrail_flows import engine, roomy, shard_work
    from attrail_flows.configuration import AuditConfig
    from attrail_flows.sharded import explaining
    from attrail_flows.slices import read_slices
    from attrail_mlflow.log_classifier import log_classifier
    from attrail_mlflow.registry import Registry

    mlflow.set_tracking_uri(uri := f"sqlite:///{folder / 'mlflow.db'}")
    for experiment in ("training", "attrail"):
        mlflow.create_experiment(experiment, artifact_location=str(folder / "artifacts" / experiment))
    mlflow.set_experiment("training")
    torch.manual_seed(0)
    plain = Preprocessing((16, 16), (0.5,) * 3, (0.5,) * 3)
    log_classifier(Tiny(), "tiny", np.zeros((2, 3, 16, 16), np.float32), plain, [str(each) for each in range(10)])
    pixels = roomy.roomy((images, 3, 16, 16))
    generator = np.random.default_rng(0)
    for start in range(0, images, 1000):
        pixels[start : start + 1000] = generator.standard_normal((min(1000, images - start), 3, 16, 16), np.float32)
    names = tuple(f"{row:06d}" for row in range(images))
    slice_ = Slice("many", pixels, np.arange(images) % 10, names, plain)
    document = {"registry": {"tracking_uri": uri, "model": "tiny"}, "slice": [{"name": "many", "source": "none"}]}
    config = AuditConfig.model_validate(document | {"explainer": [{"name": "gradcam"}]})
    registry, done = Registry(uri), [0]

    def in_turn(self: engine.Engine, works: Iterator[shard_work.Work]) -> Iterator[object]:
        return ((work, shard_work.compute(work)) for work in works)

    engine.Engine.compute = in_turn  # no Prefect: this is about what the shards and their joining hold

    def count(maps: int) -> None:
        done[0] += maps

    def explain() -> None:
        with explaining(registry, config, "memory") as how:
            how.explain(registry.resolve("tiny", "1"), [slice_], None, count)

    started, rows = time.monotonic(), []
    for row in watched(explain, done):
        rows.append(row)
    seconds = time.monotonic() - started
    middle = [row for row in rows if row[0] > images / 10]
    slope = np.polyfit([row[0] for row in middle], [row[1] for row in middle], 1)[0] * 2**20 if len(middle) > 2 else 0
    for row in rows[:: max(1, len(rows) // 10)]:
        print(f"{row[0]:7d} images: {row[1]:.0f} MiB of its own, {row[2]:.0f} MiB of files")
    print(
        json.dumps(
            {
                "images": images,
                "seconds": round(seconds, 1),
                "images per second": round(images / seconds),
                "own MiB at the end": round(rows[-1][1]),
                "own bytes per image": round(float(slope), 1),
            }
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", choices=["cache", "engines", "memory"])
    parser.add_argument("--images", type=int)
    chosen = parser.parse_args()
    every = {"cache": (measure_cache, 192), "engines": (measure_engines, 192), "memory": (measure_memory, 100_000)}
    for name, (measure, images) in every.items():
        if chosen.what in (None, name):
            with tempfile.TemporaryDirectory(prefix="attrail-scale-") as folder:
                measure(Path(folder), chosen.images or images)


if __name__ == "__main__":
    main()
