"""What somebody's training code returned: is it a module, and does it answer as the model that it is to be like."""

import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import ConfigError, TrainingError
from attrail_explainers.excerpt import excerpt


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


def require_outputs(module: torch.nn.Module, images: NDArray[np.float32], classes: int, like: str, what: str) -> None:
    """Raise ConfigError unless a module answers images (N,C,H,W) with finite outputs (N,classes), as ``like`` does.

    ``what`` names the module. Raises TrainingError where the outputs are not finite.
    """
    try:
        with torch.inference_mode():
            found: Any = module(torch.from_numpy(np.array(images)))
    except Exception as error:
        raise ConfigError(
            f"{what} does not take images of shape (C,H,W) = {images.shape[1:]}, as {like} does: "
            f"{type(error).__name__}: {excerpt(error)}"
        ) from error
    expected, shape = (len(images), classes), tuple(getattr(found, "shape", ()))
    if not isinstance(found, torch.Tensor) or shape != expected:
        got = f"outputs of shape {shape}" if isinstance(found, torch.Tensor) else type(found).__name__
        raise ConfigError(
            f"{what} gives {got} for {len(images)} images, {like} tells {classes} classes apart: outputs of shape "
            f"{expected} were expected"
        )
    if not torch.isfinite(found).all():
        raise TrainingError(f"{what} gives NaN or infinite outputs: the training diverged")
