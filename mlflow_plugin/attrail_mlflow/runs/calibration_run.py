"""A calibration's run in MLflow: kept once, found again by its key."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from attrail_explainers.digest import digest_of_bytes
from attrail_explainers.errors import RecordError, RegistryError
from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.fetching import fetched
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.retries import patiently
from attrail_mlflow.registry.tags import CALIBRATION_DIGEST_TAG, CALIBRATION_TAG, COMPLETE_TAG
from attrail_mlflow.runs.audit_run import ROOT, AuditRun, audit_run
from attrail_mlflow.runs.lookup import newest_complete
from attrail_mlflow.trail.manifest import MANIFEST, write_manifest

FILE, ARRAYS = "calibration.json", "envelopes.safetensors"
Arrays = Mapping[str, NDArray[np.float32]]


def find_calibration(registry: Registry, experiment: str, key: str) -> tuple[str, dict[str, Any], Arrays] | None:
    """Run id, contents and arrays of the newest complete calibration with a key, None when there is none.

    The contents hold the arrays' digests, which ``Calibration.from_document`` holds against the arrays. RecordError
    when its file is not the one that was kept: a floor that somebody raised would let anything pass.
    """
    with asking("calibrations cannot be looked up in MLflow"):
        run = newest_complete(registry, experiment, CALIBRATION_TAG, key)
    if run is None:
        return None
    run_id = run.info.run_id
    content = _content(run_id, FILE)
    if digest_of_bytes(content) != run.data.tags.get(CALIBRATION_DIGEST_TAG):
        raise RecordError(f"run {run_id}: {FILE} is not the one that was kept there; delete the run to calibrate anew")
    return run_id, json.loads(content), _arrays(_content(run_id, ARRAYS), run_id)


def _arrays(content: bytes, run_id: str) -> Arrays:
    try:
        return load(content)
    except SafetensorError as error:
        why = f"{ARRAYS} cannot be read: {error}; delete the run to calibrate anew"
        raise RecordError(f"run {run_id}: {why}") from error


def _content(run_id: str, name: str) -> bytes:
    try:
        with asking(f"run {run_id}: {name} cannot be read"), fetched(f"runs:/{run_id}/{ROOT}/{name}") as file:
            return file.read_bytes()
    except RegistryError as error:
        raise RegistryError(f"{error}; delete the run to calibrate anew", transient=error.transient) from error


def keep_calibration(
    registry: Registry, experiment: str, title: str, document: Mapping[str, Any], arrays: Arrays, folder: Path
) -> str:
    """Keep a calibration with the files that lie in ``folder``; its run id. ``document["key"]`` finds it again."""
    plain = {name: np.ascontiguousarray(array) for name, array in arrays.items()}  # else as memory has them
    (folder / ARRAYS).write_bytes(save(plain))
    content = (json.dumps(document, indent=1, allow_nan=False, default=dict) + "\n").encode()
    (folder / FILE).write_bytes(content)
    names = set(write_manifest(folder)) | {MANIFEST}
    with audit_run(registry, experiment, title) as run:
        run.send(folder, names)
        patiently(lambda: _publish(run, digest_of_bytes(content), document["key"]))
    return run.run_id


def _publish(run: AuditRun, digest: str, key: str) -> None:
    """Let the calibration be found; done twice it is as once."""
    with run.keeping():
        for name, value in ((CALIBRATION_DIGEST_TAG, digest), (CALIBRATION_TAG, key), (COMPLETE_TAG, "true")):
            run.registry.client.set_tag(run.run_id, name, value)
