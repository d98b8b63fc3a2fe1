"""What a worker does with a recipe: train with one seed, log and register the model, look at it as an audit would."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from attrail_explainers.errors import AttrailError, ConfigError, TrainingError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.slice import Slice
from attrail_flows.engine.model_pool import ModelKey
from attrail_flows.engine.shards import packages
from attrail_flows.engine.worker import Answer, Description, answer
from attrail_flows.recipe.code import Recipe, same_code
from attrail_flows.recipe.training import training
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.registry.retrains import remove_version
from attrail_mlflow.runs.retrain_run import retrain_run


@dataclass(frozen=True, eq=False)
class Training:
    """One seed's training, for any process on any machine: nothing in it but values.

    ``part`` holds a few images that the ``reference`` takes, ``classes`` is how many it tells apart; ``flow`` names the
    flow's run.
    """

    recipe: Recipe
    seed: int
    reference: RegisteredVersion
    classes: int
    part: Slice
    tracking_uri: str
    experiment: str
    flow: str

    @property
    def label(self) -> str:
        """What this work is, for people."""
        return f"{self.reference.label}-seed-{self.seed}"


@dataclass(frozen=True)
class Trained:
    """A version that was registered, not marked as a retrain yet, and what it is."""

    version: RegisteredVersion
    seen: Answer


def train(work: Training) -> Trained:
    """Train with a seed; the version that was registered, and what it is.

    Raises ConfigError when no seed would do: the code is another one here, or what it trains does not fit the
    reference. TrainingError when this one failed, UnsupportedModelError when it cannot be explained.
    """
    recipe, registry = same_code(work.recipe), Registry(work.tracking_uri)
    known = recipe.document() | {"packages": packages() | {"python": platform.python_version()}}
    with retrain_run(registry, work.experiment, work.reference, work.seed, known, recipe.folder) as run:
        with training(recipe, work.seed) as module:
            _require_fitting(work, module)
            version = run.log(module, np.array(work.part.images), _facts(work))
        try:
            return Trained(version, answer(Description(ModelKey(work.tracking_uri, version, work.flow), work.part)))
        except AttrailError:
            remove_version(registry, version.name, version.version)
            raise


def _facts(work: Training) -> Mapping[str, Any]:
    """What the version says of itself: images and classes as the reference has them, and that it is a retrain."""
    reference = work.reference
    return {
        "preprocessing": work.part.preprocessing and asdict(work.part.preprocessing),
        "classes": list(reference.class_names),
        "timm_model": reference.facts.get("timm_model"),
        "retrain": {"of": reference.uri, "seed": work.seed, "recipe": work.recipe.digest},
    }


def _require_fitting(work: Training, module: torch.nn.Module) -> None:
    """Raise ConfigError unless a module takes the images and has the reference's classes, TrainingError for NaN."""
    what, images = f"the model that {work.recipe.train} returned", torch.from_numpy(np.array(work.part.images))
    try:
        with torch.inference_mode():
            found = module(images.clone())
    except Exception as error:
        raise ConfigError(
            f"{what} does not take the images of slice {work.part.name!r}, (C,H,W) = {tuple(images.shape[1:])}, as "
            f"{work.reference.label} does: {type(error).__name__}: {excerpt(error)}"
        ) from error
    expected, shape = (len(images), work.classes), getattr(found, "shape", None)
    if not isinstance(found, torch.Tensor) or tuple(found.shape) != expected:
        got = type(found).__name__ if shape is None else f"outputs of shape {tuple(shape)}"
        raise ConfigError(
            f"{what} gives {got} for {len(images)} images, {work.reference.label} tells {work.classes} classes apart: "
            f"outputs of shape {expected} were expected"
        )
    if not torch.isfinite(found).all():
        raise TrainingError(f"{what} with seed {work.seed} gives NaN or infinite outputs: the training diverged")
