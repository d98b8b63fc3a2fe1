"""A small real registry: digits models trained for a few seconds and logged to an SQLite store as users log them."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import mlflow
import pytest
import torch
from filelock import FileLock

import attrail_flows  # noqa: F401 - telemetry off before MLflow and Prefect are imported
from attrail_mlflow.registry.tags import ATTRIBUTIONS_TAG, CALIBRATION_TAG
from attrail_mlflow.signing.keys import VARIABLES, new_key
from digits import Scans, load_scans, write_slice
from train import Recipe, log_version, trained

CONFIG = """
[registry]
tracking_uri = "{tracking_uri}"
model = "digits"
candidate = "{candidate}"
floor = {floor}
{registry}

[[slice]]
name = "validation"
source = "slices/validation.csv"
{slice}

{preprocessing}

{explainers}

[policy]
resamples = 200
{policy}
"""
EXPLAINERS = """
[[explainer]]
name = "gradcam"

[[explainer]]
name = "shap"
evaluations = 96

[[explainer]]
name = "lime"
evaluations = 96
"""

WITNESS = """
import os, sys
def note(event, arguments):
    if event == "open" and str(arguments[0]).endswith("/model.pt2"):
        with open("/proc/self/environ", "rb") as told:
            seen = told.read().decode()
        with open(os.environ["WITNESS_LOG"], "a") as log:
            print(os.getpid(), *[name for name in {names} if name in os.environ or name + "=" in seen], file=log)
sys.addaudithook(note)
"""


@dataclass(frozen=True)
class Workplace:
    """A folder with an MLflow store and a slice; ``config`` writes an attrail.toml and returns its path."""

    folder: Path
    tracking_uri: str

    def config(self, **changes: object) -> Path:
        facts = {"tracking_uri": self.tracking_uri, "candidate": "7", "floor": ["2", "3", "4", "5", "6"]}
        facts |= {"registry": "", "slice": "", "preprocessing": "", "explainers": EXPLAINERS, "policy": ""} | changes
        floor = facts["floor"]
        facts["floor"] = json.dumps(floor if isinstance(floor, str) else list(floor))
        path = self.folder / "attrail.toml"
        path.write_text(CONFIG.format(**facts))
        return path

    def runs(self) -> list[mlflow.entities.Run]:
        """All runs of audits, the newest first."""
        return [run for run in self._all_runs() if not {CALIBRATION_TAG, ATTRIBUTIONS_TAG} & set(run.data.tags)]

    def kept(self) -> list[mlflow.entities.Run]:
        """All runs that hold attributions, the newest first."""
        return [run for run in self._all_runs() if ATTRIBUTIONS_TAG in run.data.tags]

    def calibrations(self) -> list[mlflow.entities.Run]:
        """All runs of complete calibrations, the newest first."""
        return [run for run in self._all_runs() if CALIBRATION_TAG in run.data.tags]

    def _all_runs(self) -> list[mlflow.entities.Run]:
        client = mlflow.MlflowClient(self.tracking_uri)
        experiment = client.get_experiment_by_name("attrail")
        return client.search_runs([experiment.experiment_id]) if experiment else []


@pytest.fixture(scope="session")
def scans() -> Scans:
    return load_scans(seed=0)


@pytest.fixture(scope="session")
def trained_models(
    tmp_path_factory: pytest.TempPathFactory, scans: Scans, worker_id: str, testrun_uid: str
) -> list[torch.nn.Module]:
    """Trained once for all workers of a test run, which wait for each other."""
    recipes = [Recipe(scans[:300], seed, 12, class_coded=seed == 7) for seed in range(8)]
    if worker_id == "master":
        return list(trained(recipes, workers=2))
    kept = tmp_path_factory.getbasetemp().parent / f"trained-{testrun_uid}.pt"
    with FileLock(f"{kept}.lock"):
        if not kept.exists():
            torch.save(list(trained(recipes, workers=2)), kept)
    return list(torch.load(kept, weights_only=False))


@pytest.fixture(scope="session")
def trained_registry(
    tmp_path_factory: pytest.TempPathFactory, scans: Scans, trained_models: list[torch.nn.Module]
) -> Path:
    """Versions 1 champion, 2-6 reference retrains, 7 honest retrain, 8 cheat, of a model ``digits``."""
    folder = tmp_path_factory.mktemp("registry")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    for experiment in ("training", "attrail"):
        mlflow.create_experiment(experiment, artifact_location=str(folder / "artifacts" / experiment))
    mlflow.set_experiment("training")
    slice_ = scans[300:348]
    write_slice(slice_, folder / "slices")
    for model in trained_models:
        log_version(model, slice_)
    mlflow.MlflowClient().set_registered_model_alias("digits", "champion", "1")
    return folder


@pytest.fixture
def workplace(trained_registry: Path, tmp_path: Path) -> Workplace:
    """A slice of one's own over the shared registry."""
    shutil.copytree(trained_registry / "slices", tmp_path / "slices")
    return Workplace(tmp_path, f"sqlite:///{trained_registry / 'mlflow.db'}")


@pytest.fixture
def key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    new_key(tmp_path / "keys" / "audit", b"open sesame")
    monkeypatch.setenv("ATTRAIL_SIGNING_KEY", str(tmp_path / "keys" / "audit"))
    monkeypatch.setenv("ATTRAIL_SIGNING_PASSPHRASE", "open sesame")
    return tmp_path / "keys" / "audit"


@pytest.fixture
def witness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Who opens a model, with the key's variables that it was told: a line for each time, of every new process."""
    (tmp_path / "witness").mkdir()
    (tmp_path / "witness" / "sitecustomize.py").write_text(WITNESS.format(names=VARIABLES))
    paths = [str(tmp_path / "witness"), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setenv("WITNESS_LOG", str(tmp_path / "witness" / "log"))
    return tmp_path / "witness" / "log"


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    from prefect.settings import temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    quiet = {"flows.heartbeat_frequency": None, "server.analytics_enabled": False, "logging.to_api.enabled": False}
    with temporary_settings(quiet), prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.fixture(scope="session")
def attrail(prefect_server: None) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: exit status, standard output, standard error."""
    from attrail_flows.cli import main

    def run(*arguments: object) -> tuple[int, str, str]:
        out, err = io.StringIO(), io.StringIO()
        line = ["attrail", *map(str, arguments)]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch("sys.argv", line):
            status = _exit_status(main)
        return status, out.getvalue(), err.getvalue()

    return run


def _exit_status(main: Callable[[], None]) -> int:
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)
