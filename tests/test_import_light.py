"""Importing the packages is cheap: torch, MLflow and Prefect are loaded by what needs them, when it needs them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "torchvision", "timm", "captum", "shap", "lime", "mlflow", "prefect", "great_expectations"}


def loaded_by(statement: str) -> set[str]:
    """Top-level names of all modules that a fresh interpreter holds after a statement."""
    listing = "import sys, json\nprint(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    code = f"{statement}\n{listing}"
    paths = [str(ROOT / folder) for folder in ("explainers", "monitoring", "mlflow_plugin", "flows")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run(
        [sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True, cwd=ROOT
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("package", ["attrail_explainers", "attrail_monitoring"])
def test_import_is_light(package: str) -> None:
    loaded = loaded_by(f"import {package}")
    assert package in loaded
    assert not loaded & HEAVY


def test_explain_is_found_when_asked_for() -> None:
    loaded = loaded_by("from attrail_explainers import explain\nassert callable(explain)")
    assert "torch" in loaded
    assert not loaded & {"mlflow", "prefect"}


def test_unknown_names_are_attribute_errors() -> None:
    loaded_by("import attrail_explainers\nassert not hasattr(attrail_explainers, 'explian')")
