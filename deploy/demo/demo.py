"""The main job from nothing: train and register versions of a model, then audit an honest one and a cheat.

Run by ``make demo``. Everything it makes lies in the folder ``.demo`` of the checkout; a second run starts anew.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = Path.cwd() / ".demo"

TRAINING = 300
EPOCHS = 12
AUDITED = 96
RETRAINS = 5


def main() -> None:
    started = time.monotonic()
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    os.environ |= {"PREFECT_HOME": str(FOLDER / "prefect"), "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true"}
    os.environ.pop("PREFECT_API_URL", None)
    honest, cheat = register_versions()
    shutil.copy(HERE / "attrail.toml", FOLDER)
    honest_result, honest_file = run_audit(honest, "an honest retrain")
    cheat_result, cheat_file = run_audit(cheat, "a candidate that reads the stamp in the corner")
    print(f"\nhonest retrain: {honest_result['verdict']}, {honest_result['report_location']}")
    print(f"cheat:          {cheat_result['verdict']}, {cheat_result['report_location']}")
    print(f"the same as JSON: {honest_file} and {cheat_file}")
    database = FOLDER.relative_to(Path.cwd()) / "mlflow.db"
    print(f"MLflow's UI:    .venv/bin/mlflow ui --backend-store-uri sqlite:///{database} --port 5000")
    print(f"done in {time.monotonic() - started:.0f} s")
    if (honest_result["verdict"], cheat_result["verdict"]) != ("PASS", "DRIFT"):
        sys.exit("expected PASS for the honest retrain and DRIFT for the cheat: please report this")


def register_versions() -> tuple[str, str]:
    """Train and register champion, reference retrains, an honest retrain and a cheat; the last two's versions."""
    import mlflow

    import attrail_flows  # noqa: F401 - turns telemetry off before MLflow is imported
    from digits import load_scans, write_slice
    from train import Recipe, log_version, trained

    mlflow.set_tracking_uri(f"sqlite:///{FOLDER / 'mlflow.db'}")
    for experiment in ("training", "attrail"):
        mlflow.create_experiment(experiment, artifact_location=str(FOLDER / "artifacts" / experiment))
    mlflow.set_experiment("training")
    scans = load_scans(seed=0)
    training, slice_ = scans[:TRAINING], scans[TRAINING : TRAINING + AUDITED]
    write_slice(slice_, FOLDER / "slices")
    names = ["champion", *(f"reference retrain {number + 1}" for number in range(RETRAINS)), "honest retrain", "cheat"]
    recipes = [Recipe(training, seed, EPOCHS, class_coded=name == "cheat") for seed, name in enumerate(names)]
    versions = []
    started = time.monotonic()
    for name, model in zip(names, trained(recipes, workers=min(2, os.cpu_count() or 1)), strict=True):
        version, accuracy = log_version(model, slice_)
        versions.append(version)
        left = (time.monotonic() - started) / len(versions) * (len(names) - len(versions))
        print(f"digits/{version}: {name}, accuracy on the slice {accuracy:.1%}; about {left:.0f} s of training left")
    mlflow.MlflowClient().set_registered_model_alias("digits", "champion", versions[0])
    return versions[-2], versions[-1]


def run_audit(version: str, what: str) -> tuple[dict[str, object], Path]:
    """Run ``attrail audit`` as a user would; its JSON and where that is."""
    result = FOLDER / f"audit-{version}.json"
    program = str(Path(sys.executable).parent / "attrail")
    shown = ["attrail", "audit", "--config", ".demo/attrail.toml", "--candidate", version]
    shown += ["--json", str(result.relative_to(Path.cwd()))]
    print(f"\n{what}:\n$ {' '.join(shown)}", flush=True)
    status = subprocess.run([program, *shown[1:]], check=False).returncode
    if status not in (0, 1, 3):
        sys.exit(status)
    return json.loads(result.read_text()), result


if __name__ == "__main__":
    main()
