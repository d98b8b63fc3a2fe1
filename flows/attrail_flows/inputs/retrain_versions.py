"""The retrains of the reference, where they are its noise floor."""

import logging
from functools import cache

from attrail_explainers.errors import ConfigError
from attrail_flows.configuration import AuditConfig
from attrail_flows.recipe.code import Recipe, read_recipe
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.retrains import Retrain, retrains_of
from attrail_monitoring.inference.prediction_bound import FEWEST

COMMAND = f"attrail retrain --times {FEWEST}"

logger = logging.getLogger("attrail.audit")


def configured_recipe(config: AuditConfig) -> Recipe:
    """The recipe of a configuration; ConfigError where there is none."""
    if config.recipe is None:
        raise ConfigError(
            'there is no [recipe] in the configuration: add one, with train = "module:function" of the code that '
            "trained the reference"
        )
    return read_recipe(config.recipe)


def retrain_versions(registry: Registry, config: AuditConfig) -> tuple[str, ...]:
    """The models:/ URIs of the reference's retrains by the recipe as it is now, but for the candidate.

    Of fewer than a floor needs none where the configuration does not ask for them; where it does, ConfigError says how
    they are made.
    """
    section, recipe = config.registry, configured_recipe(config)
    reference = registry.find(section.model, section.reference)
    every = retrains_of(registry, reference.name, str(reference.source))
    usable = [each for each in every if each.recipe == recipe.digest and not _is_candidate(each, registry, config)]
    if len(usable) >= FEWEST:
        return tuple(each.uri for each in usable)
    told = (
        f"a floor needs {FEWEST} retrains, {reference.name}/{reference.version} has {len(usable)} by "
        f"{recipe.train}{_others(every, recipe)}: {COMMAND} makes them"
    )
    if section.floor == "retrains":
        raise ConfigError(f"registry.floor = 'retrains': {told}")
    _say_once(f"there is a [recipe], and it is not used: {told}")
    return ()


@cache
def _say_once(told: str) -> None:
    """Versions are looked up before a flow starts and in it."""
    logger.warning(told)


def _is_candidate(retrain: Retrain, registry: Registry, config: AuditConfig) -> bool:
    section = config.registry
    if section.candidate is None or retrain.name not in section.candidate:
        return False
    found = registry.find(section.model, section.candidate)
    return (found.name, str(found.version)) == (retrain.name, retrain.version)


def _others(every: list[Retrain], recipe: Recipe) -> str:
    count = sum(each.recipe != recipe.digest for each in every)
    return f" as its code is now, and {count} by other code" if count else ""
