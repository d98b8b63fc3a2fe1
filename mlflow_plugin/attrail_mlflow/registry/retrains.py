"""Retrains in the registry: versions that attrail trained for a noise floor, in a registered model of their own.

No alias of the model itself can name one of them, and the gate refuses every protected role to a version that is one
(``gate/decision.py``).
"""

from dataclasses import dataclass

from mlflow.exceptions import MlflowException

from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.experiments import THERE_ALREADY
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.searching import versions_named
from attrail_mlflow.registry.tags import (
    RECIPE_TAG,
    REFERENCE_WEIGHTS_TAG,
    RETRAIN_TAG,
    RETRAINS,
    SEED_TAG,
    WEIGHTS_TAG,
)

DESCRIPTION = (
    "Retrains of {model}, made by `attrail retrain` with other seeds, to measure how far training anew moves a model's "
    "evidence. They are no candidates: attrail's gate gives none of them a protected alias or stage."
)


@dataclass(frozen=True)
class Retrain:
    """A version that was trained for a noise floor: by the ``recipe`` of this digest, with which ``seed``.

    ``weights`` is the digest of the weights that it got.
    """

    name: str
    version: str
    recipe: str
    seed: int
    weights: str

    @property
    def label(self) -> str:
        """Name and version, ``digits-retrains/3``."""
        return f"{self.name}/{self.version}"

    @property
    def uri(self) -> str:
        """The version's address in MLflow, ``models:/digits-retrains/3``."""
        return f"models:/{self.label}"


def retrains_model(model: str) -> str:
    """The name of the registered model that holds the retrains of another."""
    return model + RETRAINS


def retrains_of(registry: Registry, model: str, source: str) -> list[Retrain]:
    """The retrains of the version of ``model`` with a source, by recipe and seed; of several with the same the oldest.

    Raises RegistryError when MLflow cannot be asked.
    """
    name, found = retrains_model(model), dict[tuple[str, int], Retrain]()
    with asking(f"the versions of {name} cannot be looked up", registry.shown):
        for each in versions_named(registry.client, name):  # the newest first
            tags = each.tags
            if tags.get(RETRAIN_TAG) == source and tags.get(SEED_TAG, "").isdecimal():
                recipe, seed = tags.get(RECIPE_TAG, ""), int(tags[SEED_TAG])
                found[recipe, seed] = Retrain(name, str(each.version), recipe, seed, tags.get(WEIGHTS_TAG, ""))
    return [found[key] for key in sorted(found)]


def require_retrains_model(registry: Registry, model: str) -> None:
    """Make the registered model that holds a model's retrains, with a description, unless it is there."""
    name = retrains_model(model)
    with asking(f"the registered model {name} cannot be made", registry.shown):
        try:
            registry.client.create_registered_model(name, description=DESCRIPTION.format(model=model))
        except MlflowException as error:
            if error.error_code != THERE_ALREADY:
                raise


def mark_retrain(registry: Registry, retrain: Retrain, source: str, weights: str) -> None:
    """Write on a version what it was trained as; it is a retrain from the last tag on. Done twice it is as once.

    ``source`` is that of the version that it is a retrain of, ``weights`` the digest of its weights.
    """
    tags = {
        RECIPE_TAG: retrain.recipe,
        SEED_TAG: str(retrain.seed),
        WEIGHTS_TAG: retrain.weights,
        REFERENCE_WEIGHTS_TAG: weights,
        RETRAIN_TAG: source,
    }
    with asking(f"{retrain.label} cannot be marked as a retrain", registry.shown):
        for key, value in tags.items():
            registry.client.set_model_version_tag(retrain.name, retrain.version, key, value)


def remove_version(registry: Registry, name: str, version: str) -> None:
    """Delete a version that was registered and then found to be no retrain."""
    with asking(f"{name}/{version} cannot be deleted", registry.shown):
        registry.client.delete_model_version(name, version)
