"""Tripwires in the worker's processes: each point that an audit reaches is written down, and held while it is asked.

Python imports this by itself where the suite puts its folder on the path. Nothing real is replaced: a function that is
watched does what it does, and a line in the trace says when it began or ended. ``FAULTS`` names the suite's folder:

    trace.jsonl     one line for each point, with the process that reached it
    hold/POINT      the process waits at the point while this file is there, so that a kill finds it exactly there
    budget          the activations of a shard, so that a small audit has several
"""

import functools
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(os.environ.get("FAULTS", ""))
PATIENCE = 60.0  # seconds that a point is held at most

# module: (function, point before it, point after it)
WATCHED = {
    "attrail_flows.engine.worker": [("_compute", "shard begun", "shard computed"), ("compute", None, "shard kept")],
    "attrail_explainers.assessment.weight_randomisation": [("shuffled", "calibrating", None)],
    "attrail_mlflow.runs.calibration_run": [("keep_calibration", "floor measured", "floor kept")],
    "attrail_mlflow.runs.evidence_files": [("Evidence.write", "judged", "evidence written")],
    "attrail_mlflow.trail.attestation": [("Trail.note_audit", "evidence sent", "journaled")],
    "mlflow.tracking.client": [
        ("MlflowClient.set_model_version_tag", None, "version tagged"),
        ("MlflowClient.set_tag", None, "run tagged"),
    ],
    "mlflow.store.artifact.http_artifact_repo": [("HttpArtifactRepository.log_artifact", None, "sent")],
}


SENDING = {"floor measured": "floor sent", "evidence written": "file sent"}  # what is uploaded after these points
SENT = {"floor kept", "evidence sent"}
upload = "sent"


def reached(point: str, *about: object) -> None:
    """Write a point down, and wait there while it is held."""
    global upload  # noqa: PLW0603 - it is the process that uploads
    upload = SENDING.get(point, "sent" if point in SENT else upload)
    point = upload if point == "sent" else point
    facts = {"point": point, "pid": os.getpid(), "time": time.time(), "about": [str(each) for each in about]}
    with (FOLDER / "trace.jsonl").open("ab", buffering=0) as trace:
        trace.write(json.dumps(facts).encode() + b"\n")
    deadline = time.monotonic() + PATIENCE
    while (FOLDER / "hold" / point).exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def named(argument: Any) -> str:
    """What a point is about; a shard's key is a part of it, because rehearsals draw the same images otherwise."""
    if isinstance(argument, str):
        return argument
    keys = getattr(argument, "keys", None)
    key = next(iter(keys.values()), "") if isinstance(keys, Mapping) else ""
    return f"{getattr(argument, 'label', '')} {key}".strip()


def shown(value: Any) -> str:
    """A shard's work by its label and what it depends on: the same part with another seed is another shard."""
    keys = getattr(value, "keys", None)
    return f"{value.label} {min(keys.values())}" if isinstance(keys, dict) else ""


def watched(real: Callable[..., Any], before: str | None, after: str | None) -> Callable[..., Any]:
    @functools.wraps(real)
    def called(*arguments: Any, **options: Any) -> Any:
        about = [named(each) for each in arguments]
        if before:
            reached(before, *about)
        result = real(*arguments, **options)
        if after:
            reached(after, *about)
        return result

    return called


def watch(module: ModuleType) -> None:
    for path, before, after in WATCHED.get(module.__name__, ()):
        *inside, name = path.split(".")
        owner = functools.reduce(getattr, inside, module)
        setattr(owner, name, watched(getattr(owner, name), before, after))
    if module.__name__ == "attrail_flows.engine.shards":
        module.BUDGET = float((FOLDER / "budget").read_text())


class Loader(importlib.abc.Loader):
    """Loads a module as it is and then watches it."""

    def __init__(self, real: importlib.abc.Loader) -> None:
        self.real = real

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self.real.exec_module(module)
        watch(module)


class Finder(importlib.abc.MetaPathFinder):
    """Finds the modules that are watched where they always are."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in WATCHED and name != "attrail_flows.engine.shards":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            spec.loader = Loader(spec.loader)
        return spec


if "FAULTS" in os.environ:
    sys.meta_path.insert(0, Finder())
