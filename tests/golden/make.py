"""Make the golden bundle of a format: ``python tests/golden/make.py v1`` runs a real audit and exports it, once.

A folder that exists is never written again: bundles and journals of every released format must verify for ever
(``tests/mlflow_plugin/trail/test_golden.py``). The private key is thrown away.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow

import attrail_flows  # noqa: F401 - telemetry off

sys.path.append(str(Path(__file__).resolve().parents[2] / "deploy" / "demo"))
from digits import load_scans, write_slice
from train import Recipe, log_version, trained

CONFIG = """
[registry]
tracking_uri = "sqlite:///mlflow.db"
model = "digits"
candidate = "6"
floor = ["2", "3", "4", "5"]

[[slice]]
name = "validation"
source = "slices/validation.csv"
limit = 3

[[explainer]]
name = "gradcam"

[policy]
resamples = 200
"""
KEPT = ("bundle.zip", "journal.jsonl", "journal.jsonl.head", "trust.toml", "audit.pub")


def register(folder: Path) -> None:
    """A champion, four retrains and a candidate of a small net on scanned digits."""
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    for experiment in ("training", "attrail"):
        mlflow.create_experiment(experiment, artifact_location=str(folder / "artifacts" / experiment))
    mlflow.set_experiment("training")
    scans = load_scans(seed=0)
    write_slice(scans[300:348], folder / "slices")
    for model in trained([Recipe(scans[:300], seed, 12, class_coded=False) for seed in range(6)], workers=1):
        log_version(model, scans[300:348])
    mlflow.MlflowClient().set_registered_model_alias("digits", "champion", "1")
    (folder / "attrail.toml").write_text(CONFIG)


def attrail(folder: Path, *arguments: str) -> str:
    """Run a command there, signing and journaling; what it printed."""
    environment = {"ATTRAIL_SIGNING_KEY": "audit", "ATTRAIL_JOURNAL": "journal.jsonl", "ATTRAIL_ACTOR": "golden"}
    environment |= {"ATTRAIL_STATEMENT_DAYS": "3650", "MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    command = [sys.executable, "-c", "from attrail_flows.cli import main; main()", *arguments]
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False
    )
    if done.returncode not in (0, 1, 3):
        raise SystemExit(done.stdout + done.stderr)
    return done.stdout


def main(version: str) -> None:
    target = Path(__file__).parent / version
    if target.exists():
        raise SystemExit(f"{target} is there already: a golden bundle is never written again")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        register(folder)
        (folder / "trust.toml").write_text(attrail(folder, "keys", "new", "audit", "--owner", "golden"))
        attrail(folder, "audit", "--config", "attrail.toml", "--json", "result.json")
        run = mlflow.MlflowClient().search_runs([mlflow.get_experiment_by_name("attrail").experiment_id])
        (run_id,) = (each.info.run_id for each in run if "attrail.verdict" in each.data.tags)
        attrail(folder, "export", run_id, "--out", "bundle.zip", "--trust", "trust.toml")
        target.mkdir()
        for name in KEPT:
            shutil.copy(folder / name, target / name)
    print(f"{target}: {sum(path.stat().st_size for path in target.iterdir())} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
