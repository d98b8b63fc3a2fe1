"""What somebody's training code returned: is it a module, and does it answer as the model that it is to be like."""

import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import ConfigError, TrainingError, UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.returned import Returned
from attrail_explainers.model.task import Task

SINGLE = 2  # classes that one output may stand for


def begin_random_numbers(seed: int) -> None:
    """Let the random numbers of Python, NumPy and torch begin at a seed, all over this process."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def trained_module(found: Any, what: str) -> torch.nn.Module:
    """The module, in evaluation mode on the CPU; ConfigError names ``what`` returned it when it is none."""
    if not isinstance(found, torch.nn.Module):
        raise ConfigError(
            f"{what} returned {type(found).__name__}, a torch.nn.Module was expected: return the trained model"
        )
    return found.eval().cpu()


def returns_one_tensor(module: torch.nn.Module, images: NDArray[Any]) -> bool:
    """Whether a module answers images (N,C,H,W) with a lone tensor."""
    with torch.inference_mode():
        return isinstance(module(torch.from_numpy(np.array(images))), torch.Tensor)


def require_outputs(
    module: torch.nn.Module, images: NDArray[Any], task: Task, classes: int, like: str, what: str
) -> None:
    """Raise ConfigError unless a module answers images (N,C,H,W) with finite outputs (N,classes,...), as ``like`` does.

    One output stands for two classes. ``what`` names the module, ``task`` says what the outputs are. Raises
    TrainingError where they are not finite.
    """
    given = torch.from_numpy(np.array(images))
    try:
        with torch.inference_mode():
            found: Any = module(given)
    except Exception as error:
        raise ConfigError(
            f"{what} does not take images of shape (C,H,W) = {images.shape[1:]}, as {like} does: "
            f"{type(error).__name__}: {excerpt(error)}"
        ) from error
    outputs = found if isinstance(found, torch.Tensor) else _part(found, given, task, like, what)
    if outputs.shape[:2] not in {(len(images), classes), *([(len(images), 1)] if classes == SINGLE else [])}:
        raise ConfigError(
            f"{what} gives outputs of shape {tuple(outputs.shape)} for {len(images)} images, {like} tells {classes} "
            f"{task.answers} apart: outputs of shape {(len(images), classes)} were expected"
        )
    if not torch.isfinite(outputs).all():
        raise TrainingError(f"{what} gives NaN or infinite outputs: the training diverged")


def _part(found: Any, images: torch.Tensor, task: Task, like: str, what: str) -> torch.Tensor:
    """What of a returned tuple, dict or dataclass the task is about."""
    try:
        return Returned(what, task).part(found, images)
    except UnsupportedModelError as error:
        raise ConfigError(f"{what} does not answer as {like} does: {error}") from error
