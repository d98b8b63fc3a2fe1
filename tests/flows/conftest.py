"""A small real registry: digits models trained for a few seconds and logged to an SQLite store as users log them."""

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import mlflow
import pytest

import attrail_flows  # noqa: F401 - telemetry off before MLflow and Prefect are imported
from attrail_mlflow.attribution_store import WEIGHTS
from attrail_mlflow.calibration_run import KEY
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


@dataclass(frozen=True)
class Workplace:
    """A folder with an MLflow store and a slice; ``config`` writes an attrail.toml and returns its path."""

    folder: Path
    tracking_uri: str

    def config(self, **changes: object) -> Path:
        facts = {"tracking_uri": self.tracking_uri, "candidate": "7", "floor": ["2", "3", "4", "5", "6"]}
        facts |= {"registry": "", "slice": "", "preprocessing": "", "explainers": EXPLAINERS, "policy": ""} | changes
        facts["floor"] = str(list(facts["floor"])).replace("'", '"')
        path = self.folder / "attrail.toml"
        path.write_text(CONFIG.format(**facts))
        return path

    def runs(self) -> list[mlflow.entities.Run]:
        """All runs of audits, the newest first."""
        return [run for run in self._all_runs() if not {KEY, WEIGHTS} & set(run.data.tags)]

    def kept(self) -> list[mlflow.entities.Run]:
        """All runs that hold attributions, the newest first."""
        return [run for run in self._all_runs() if WEIGHTS in run.data.tags]

    def calibrations(self) -> list[mlflow.entities.Run]:
        """All runs of complete calibrations, the newest first."""
        return [run for run in self._all_runs() if KEY in run.data.tags]

    def _all_runs(self) -> list[mlflow.entities.Run]:
        client = mlflow.MlflowClient(self.tracking_uri)
        experiment = client.get_experiment_by_name("attrail")
        return client.search_runs([experiment.experiment_id]) if experiment else []


@pytest.fixture(scope="session")
def scans() -> Scans:
    return load_scans(seed=0)


@pytest.fixture(scope="session")
def trained_registry(tmp_path_factory: pytest.TempPathFactory, scans: Scans) -> Path:
    """Versions 1 champion, 2-6 reference retrains, 7 honest retrain, 8 cheat, of a model ``digits``."""
    folder = tmp_path_factory.mktemp("registry")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    for experiment in ("training", "attrail"):
        mlflow.create_experiment(experiment, artifact_location=str(folder / "artifacts" / experiment))
    mlflow.set_experiment("training")
    slice_ = scans[300:348]
    write_slice(slice_, folder / "slices")
    recipes = [Recipe(scans[:300], seed, 12, class_coded=seed == 7) for seed in range(8)]
    for model in trained(recipes, workers=2):
        log_version(model, slice_)
    mlflow.MlflowClient().set_registered_model_alias("digits", "champion", "1")
    return folder


@pytest.fixture
def workplace(trained_registry: Path, tmp_path: Path) -> Workplace:
    """A slice of one's own over the shared registry."""
    shutil.copytree(trained_registry / "slices", tmp_path / "slices")
    return Workplace(tmp_path, f"sqlite:///{trained_registry / 'mlflow.db'}")


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
