"""What a worker does with a recipe: train with one seed, log and register the model, look at it as an audit would."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.errors import AttrailError
from attrail_explainers.model.pixels import Pixels
from attrail_explainers.model.task import Task
from attrail_explainers.model.trained_module import require_outputs
from attrail_explainers.slice import PIXELS, Slice
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

    ``part`` holds a few images that the ``reference`` takes, ``classes`` is how many it tells apart, ``task`` what is
    asked of both; ``flow`` names the flow's run.
    """

    recipe: Recipe
    seed: int
    reference: RegisteredVersion
    classes: int
    part: Slice
    tracking_uri: str
    experiment: str
    flow: str
    task: Task

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
            what, images = f"the model that {recipe.train} trained with seed {work.seed}", _images(work)
            require_outputs(module, images, work.task, work.classes, work.reference.label, what)
            version = run.log(module, images, _facts(work))
        try:
            return Trained(
                version, answer(Description(ModelKey(work.tracking_uri, version, work.flow, task=work.task), work.part))
            )
        except AttrailError:
            remove_version(registry, version.name, version.version)
            raise


def _images(work: Training) -> NDArray[Any]:
    """The few images as the reference takes them."""
    images = np.array(work.part.images)
    if work.reference.input_type != PIXELS:
        return images
    return Pixels.of(work.part.preprocessing).array(images)


def _facts(work: Training) -> Mapping[str, Any]:
    """What the version says of itself: images and classes as the reference has them, and that it is a retrain."""
    reference = work.reference
    return {
        "preprocessing": work.part.preprocessing and asdict(work.part.preprocessing),
        "classes": list(reference.class_names),
        "timm_model": reference.facts.get("timm_model"),
        "retrain": {"of": reference.uri, "seed": work.seed, "recipe": work.recipe.digest},
    }
