"""``make task-zoo``: whether the verdict is right about models that do not choose one class of several.

For each kind of ``kinds/`` it trains a champion, retrains of it that differ by their seed alone, and a candidate whose
training images had the answers in their corner; it logs them to a registry of their own and audits each retrain, and
the candidate, with the others as the noise floor. It writes ``monitoring/TASK_ZOO.md``.
"""

import argparse
import tempfile
import time
from pathlib import Path

import mlflow
import numpy as np
import torch
from kind import Kind, kinds
from page import Audited, page

import attrail_flows  # noqa: F401 - telemetry off before MLflow and Prefect are imported
from attrail_flows.audit import audit
from attrail_flows.configuration import read_config
from attrail_mlflow import log_classifier

PAGE = Path(__file__).parents[2] / "monitoring" / "TASK_ZOO.md"
RETRAINS = 6  # five are the floor of the sixth, and of the one with the shortcut
HALVES = {"mean": (0.5,) * 3, "std": (0.5,) * 3}
CONFIG = """
[registry]
tracking_uri = "{uri}"
model = "{name}"
reference = "1"
candidate = "{candidate}"
floor = {floor}
change = "retrain"

[[slice]]
name = "validation"
source = "slice.csv"

[task]
{task}

{explainers}
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", nargs="*", help="kinds, by their names; then the page is printed, not written")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    found = {name: kind for name, kind in kinds().items() if not given.only or name in given.only}
    audited = {name: run(name, kind) for name, kind in found.items()}
    text = page(found, audited)
    if not given.only:
        PAGE.write_text(text, encoding="utf-8")
    print(text)


def run(name: str, kind: Kind) -> list[Audited]:
    """Train, log and audit one kind."""
    with tempfile.TemporaryDirectory(prefix="attrail-task-zoo-") as place:
        folder = Path(place)
        mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
        mlflow.create_experiment("attrail", artifact_location=str(folder / "artifacts"))
        mlflow.set_experiment("attrail")
        kind.write_slice(folder)
        seconds = [_logged(name, kind, seed, coded=False) for seed in range(1 + RETRAINS)]
        seconds.append(_logged(name, kind, 1 + RETRAINS, coded=True))
        retrains = [str(2 + place) for place in range(RETRAINS)]
        last = str(2 + RETRAINS)
        asked = [(each, "honest retrain", [other for other in retrains if other != each]) for each in retrains]
        asked.append((last, "planted shortcut", retrains[1:]))
        config = {"uri": f"sqlite:///{folder / 'mlflow.db'}", "name": name, "task": kind.task}
        found = []
        for candidate, what, floor in reversed(asked):  # the one that nobody doubts first
            path = folder / f"{candidate}.toml"
            path.write_text(CONFIG.format(candidate=candidate, floor=floor, explainers=kind.explainers, **config))
            started = time.monotonic()
            record = audit(read_config(path))
            found.append(Audited(what, record, time.monotonic() - started, float(np.mean(seconds))))
        return found[::-1]


def _logged(name: str, kind: Kind, seed: int, *, coded: bool) -> float:
    """Train a version and register it; how many seconds training took."""
    started = time.monotonic()
    network = kind.train(seed, coded)
    took = time.monotonic() - started
    size = (kind.side, kind.side)
    log_classifier(network, name, torch.zeros(2, 3, *size), {"size": size, **HALVES}, classes=kind.classes)
    return took


if __name__ == "__main__":
    main()
