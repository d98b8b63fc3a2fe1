"""What the four packages name; importing one loads no torch, MLflow or Prefect, asking for what needs them does."""

import ast
import importlib
import inspect
import json
import os
import re
import subprocess
import sys
import textwrap
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


PACKAGES = ["attrail_explainers", "attrail_monitoring", "attrail_mlflow", "attrail_flows"]


@pytest.mark.parametrize("package", PACKAGES)
def test_import_is_light(package: str) -> None:
    loaded = loaded_by(f"import {package}")
    assert package in loaded
    assert not loaded & HEAVY


def test_explain_is_found_when_asked_for() -> None:
    loaded = loaded_by("from attrail_explainers import explain\nassert callable(explain)")
    assert "torch" in loaded
    assert not loaded & {"mlflow", "prefect"}


@pytest.mark.parametrize("package", PACKAGES)
def test_every_public_name_is_there_listed_and_documented(package: str) -> None:
    found = importlib.import_module(package)
    assert found.__all__ == sorted(found.__all__)
    assert set(found.__all__) <= set(dir(found))
    for name in found.__all__:
        text = inspect.getdoc(getattr(found, name)) or ""
        examples = re.findall(r"::\n\n((?:    .*\n|\n)+)", text + "\n")
        assert examples, f"{package}.{name} has no example in its docstring"
        assert all(ast.parse(textwrap.dedent(each)) for each in examples)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'explian'"):
        found.explian  # noqa: B018


@pytest.mark.parametrize("first", ["attrail_mlflow.log_classifier", "attrail_mlflow"])
def test_log_classifier_is_the_function_whoever_imports_its_module(first: str) -> None:
    """A module of that name must not take its place when it is imported later."""
    both = (
        "from attrail_mlflow import log_classifier\nfrom attrail_mlflow.log_classifier import log_classifier as there"
    )
    loaded = loaded_by(f"import {first}\n{both}\nassert log_classifier is there and callable(there)")
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", ["audit", "calibrate", "audit_registry", "promote", "watch"])
def test_the_flows_keep_the_entry_points_that_servers_have_stored(name: str) -> None:
    module = importlib.import_module(f"attrail_flows.{name}")
    assert getattr(sys.modules["attrail_flows"], name) is module
    assert getattr(module, name).name == f"attrail-{name.replace('_', '-')}"
