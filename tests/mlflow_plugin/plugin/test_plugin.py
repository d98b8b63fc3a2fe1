"""The entry points: found, light, and never in the way of somebody who only wants MLflow."""

import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SCHEMES = ["sqlite", "postgresql", "postgresql+psycopg2", "mysql+pymysql", "mssql+pyodbc"]
USE = """
import json, os, sys
before = dict(os.environ)
import mlflow
client = mlflow.MlflowClient(sys.argv[1], sys.argv[1])
client.create_registered_model("m")
with mlflow.start_run():
    pass
changed = {key for key, value in os.environ.items() if before.get(key) != value and key.startswith("MLFLOW_")}
print(json.dumps([sorted(changed), sorted(name for name in sys.modules if name.startswith("attrail"))]))
"""


@pytest.mark.parametrize("scheme", SCHEMES)
def test_entry_points_are_installed(scheme: str) -> None:
    (found,) = entry_points(group="mlflow.model_registry_store", name=f"attrail+{scheme}")
    assert callable(found.load())


def test_mlflow_works_beside_a_broken_torch(tmp_path: Path) -> None:
    """As with a CUDA library that does not fit: ``import torch`` raises OSError, not ImportError."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")}
    done = subprocess.run(
        [sys.executable, "-c", USE, f"sqlite:///{tmp_path / 'mlflow.db'}"],
        env=environment | {"PYTHONPATH": str(tmp_path), "MLFLOW_DISABLE_TELEMETRY": "true"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    changed, modules = json.loads(done.stdout.splitlines()[-1])
    assert changed == [], "importing the plugin changed MLflow's settings for somebody else"
    assert "attrail_mlflow.plugin.registry_store" in modules, "the entry point was not loaded: the test shows nothing"
    assert "attrail_mlflow.gate_server.store" not in modules
