"""Log a PyTorch classifier so that attrail, or anyone, can explain it later without being told how."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import mlflow
import numpy as np
from numpy.typing import NDArray

from attrail_explainers.slice import Preprocessing


def log_classifier(
    module: Any,
    registered_name: str,
    example: NDArray[np.float32],
    preprocessing: Preprocessing,
    classes: Sequence[str] = (),
    timm_model: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Log a torch module in MLflow's default pt2 format, register it and return the new version's number.

    ``example`` (N,C,H,W) float32 with N of at least 2: MLflow exports a model logged with one image for one image
    only. The module is put in evaluation mode on the CPU first, because MLflow exports whatever mode it finds.
    ``preprocessing``, ``classes`` and ``timm_model`` go into the logged model's metadata under ``attrail``.
    """
    module.eval().cpu()
    facts = {"preprocessing": asdict(preprocessing), "classes": list(classes), "timm_model": timm_model}
    with mlflow.start_run(run_name=f"log {registered_name}"):
        mlflow.log_metrics(dict(metrics or {}))
        logged = mlflow.pytorch.log_model(
            module,
            name="model",
            registered_model_name=registered_name,
            input_example=example,
            pip_requirements=[f"{name}=={version(name)}" for name in ("torch", "torchvision")],
            metadata={"attrail": facts},
        )
    return str(logged.registered_model_version)
