"""Log a PyTorch classifier so that attrail, or anyone, can explain it later without being told how.

The package imports this module, and MLflow imports the package in everybody's process: libraries are imported by what
needs them.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from attrail_explainers.errors import ConfigError

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo
    from numpy.typing import NDArray

    from attrail_explainers.slice import Preprocessing


def log_classifier(
    module: Any,
    registered_name: str,
    example: Any,
    preprocessing: "Preprocessing | Mapping[str, Any]",
    classes: Sequence[str] = (),
    timm_model: str | None = None,
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Log a torch module in MLflow's default pt2 format, register it, and return the new version's number as text.

    The logged model says for itself how images become its inputs and what its classes are called, so that no
    configuration needs to::

        halves = Preprocessing(size=(64, 64), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        log_classifier(model, "digits", torch.zeros(2, 3, 64, 64), halves, classes=["zero", "one", "two"])

    Args:
        module: The model, any ``torch.nn.Module`` from images to logits, or to what another task is about, alone or in
            a tuple or a dict. It is put in evaluation mode on the CPU, and stays so, because MLflow exports whatever
            mode it finds.
        registered_name: The registered model that gets a new version; it is made where there is none.
        example: Array or tensor (N,C,H,W) of floats, or of uint8 for a module that takes pixels and normalises them
            itself, with N of at least 2: MLflow exports a model that was logged with one image for one image only.
        preprocessing: How a picture becomes such an input: a ``Preprocessing``, or a dict with its keys.
        classes: Names of the classes in the order of the outputs, by which labels and class folders are looked up.
            Without them class folders are numbered in alphabetical order, as torchvision's ImageFolder does.
        timm_model: Name of the timm model that this one was made from, for the record.
        metrics: Written on the run that logs the model.

    It logs to the active run, where there is one, whose parameters say how the version was trained; else to one of its
    own. ``preprocessing``, ``classes`` and ``timm_model`` are kept in the logged model's metadata under ``attrail``.
    Raises ConfigError for an example or a preprocessing that is none, before anything is logged.
    """
    import mlflow  # noqa: PLC0415 - see above

    from attrail_explainers.slice import Preprocessing  # noqa: PLC0415
    from attrail_mlflow.registry.preprocessing import preprocessing_from  # noqa: PLC0415

    example = _images(example)
    if not isinstance(preprocessing, Preprocessing):
        preprocessing = preprocessing_from(preprocessing, "preprocessing", "give a Preprocessing, or a dict like it")
    facts = {"preprocessing": asdict(preprocessing), "classes": list(classes), "timm_model": timm_model}
    active = mlflow.active_run()
    with contextlib.nullcontext(active) if active else mlflow.start_run(run_name=f"log {registered_name}"):
        mlflow.log_metrics(dict(metrics or {}))
        return str(log_in_run(module, example, facts, registered_name).registered_model_version)


def log_in_run(
    module: Any, example: "NDArray[Any]", facts: Mapping[str, Any], registered_name: str | None = None
) -> "ModelInfo":
    """Log a torch module in the run that is active, register it if there is a name, and return MLflow's facts about it.

    ``facts`` are kept in the logged model's metadata under ``attrail``; the rest is as with ``log_classifier``.
    """
    import mlflow  # noqa: PLC0415 - see above

    module.eval().cpu()
    logged: ModelInfo = mlflow.pytorch.log_model(
        module,
        name="model",
        registered_model_name=registered_name,
        input_example=example,
        signature=_signature(module, example),
        pip_requirements=[f"{name}=={version(name)}" for name in ("torch", "torchvision")],
        metadata={"attrail": facts},
    )
    return logged


def _signature(module: Any, example: "NDArray[Any]") -> Any:
    """What a model takes, where it returns several things; None, for what MLflow finds itself, for a lone tensor.

    MLflow infers no signature of a tuple or a dict, and then refuses the model for its input.
    """
    from attrail_explainers.model.trained_module import returns_one_tensor  # noqa: PLC0415 - it loads torch

    if returns_one_tensor(module, example):
        return None
    from mlflow.models import ModelSignature  # noqa: PLC0415 - see above
    from mlflow.types import Schema, TensorSpec  # noqa: PLC0415

    return ModelSignature(inputs=Schema([TensorSpec(example.dtype, (-1, *example.shape[1:]))]))


def _images(example: Any) -> "NDArray[Any]":
    """The example as an array; ConfigError when it is no batch of two images or more."""
    import numpy as np  # noqa: PLC0415 - see above

    wanted = "example must be an array or a tensor (N,C,H,W) of floats, or of uint8, with two images or more"
    if hasattr(example, "detach"):
        example = example.detach().cpu().numpy()
    if not isinstance(example, np.ndarray):
        raise ConfigError(f"{wanted}, got {type(example).__name__}: give the images alone")
    known = example.dtype == np.uint8 or np.issubdtype(example.dtype, np.floating)
    if example.ndim != 4 or len(example) < 2 or not known:
        raise ConfigError(f"{wanted}, got {example.dtype} of shape {example.shape}")
    return example if example.dtype == np.uint8 else example.astype(np.float32)
