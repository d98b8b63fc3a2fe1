"""Log a PyTorch classifier so that attrail, or anyone, can explain it later without being told how."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import mlflow
import numpy as np
from numpy.typing import NDArray

from attrail_explainers.errors import ConfigError
from attrail_explainers.slice import Preprocessing
from attrail_mlflow.registry.preprocessing import preprocessing_from


def log_classifier(
    module: Any,
    registered_name: str,
    example: Any,
    preprocessing: Preprocessing | Mapping[str, Any],
    classes: Sequence[str] = (),
    timm_model: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Log a torch module in MLflow's default pt2 format, register it and return the new version's number.

    ``example`` is an array or a tensor (N,C,H,W) of floats with N of at least 2, ConfigError otherwise: MLflow exports
    a model logged with one image for one image only. The module is put in evaluation mode on the CPU first, because
    MLflow exports whatever mode it finds. ``preprocessing`` (a dict with its keys will do), ``classes`` and
    ``timm_model`` go into the logged model's metadata under ``attrail``::

        log_classifier(model, "digits", torch.zeros(2, 3, 64, 64), Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3))
    """
    example = _images(example)
    if not isinstance(preprocessing, Preprocessing):
        preprocessing = preprocessing_from(preprocessing, "preprocessing", "give a Preprocessing, or a dict like it")
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


def _images(example: Any) -> NDArray[np.float32]:
    """The example as an array; ConfigError when it is no batch of two images or more."""
    wanted = "example must be an array or a tensor (N,C,H,W) of floats with two images or more"
    if hasattr(example, "detach"):
        example = example.detach().cpu().numpy()
    if not isinstance(example, np.ndarray):
        raise ConfigError(f"{wanted}, got {type(example).__name__}: give the images alone")
    if example.ndim != 4 or len(example) < 2 or not np.issubdtype(example.dtype, np.floating):
        raise ConfigError(f"{wanted}, got {example.dtype} of shape {example.shape}")
    return example.astype(np.float32)
