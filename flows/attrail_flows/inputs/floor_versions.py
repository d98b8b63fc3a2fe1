"""Which versions make the floor: those that the configuration lists, or those that its word stands for."""

import shlex
from dataclasses import dataclass

from attrail_explainers.errors import ConfigError
from attrail_flows.configuration import AuditConfig
from attrail_flows.inputs.retrain_versions import retrain_versions
from attrail_flows.sections import RegistrySection
from attrail_mlflow.history import proposal
from attrail_mlflow.history.choice import FloorChoice, find_choice
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.searching import versions_named

NO_FLOOR = {
    "architecture": "retrains of one architecture say nothing of another; set [policy.margins]",
    "same-function": "where the function stays the same only the explainers' own draws may move maps",
}
RETRAINED = ("retrain", "refresh")  # changes whose floor retrains are, unless another one is given


@dataclass(frozen=True)
class FloorVersions:
    """The floor's versions, each spelled as ``Registry.resolve`` takes it: alias, version or models:/ URI.

    ``choice`` says who chose them out of the history.
    """

    spellings: tuple[str, ...] = ()
    choice: FloorChoice | None = None


def require_change(section: RegistrySection) -> None:
    """Raise ConfigError where the declared change can have no floor, or none of this kind."""
    if section.floor and section.change in NO_FLOOR:
        raise ConfigError(
            f"registry.floor cannot be used with change = {section.change!r}: {NO_FLOOR[section.change]}; leave floor "
            "empty"
        )
    if section.floor == "history":
        proposal.require_change(section.change)


def floor_versions(registry: Registry, config: AuditConfig) -> FloorVersions:
    """The versions of the configuration's floor; ConfigError where the declared change can have none."""
    section = config.registry
    require_change(section)
    if section.floor == "history":
        return _chosen_history(registry, section)
    if section.floor == "retrains" or (not section.floor and config.recipe and section.change in RETRAINED):
        return FloorVersions(retrain_versions(registry, config))
    return FloorVersions(section.floor)


def _chosen_history(registry: Registry, section: RegistrySection) -> FloorVersions:
    """The earlier versions that somebody chose, as long as all of them are there."""
    reference = registry.find(section.model, section.reference)
    label, choice = f"{reference.name}/{reference.version}", find_choice(registry, reference)
    which = f"--model {shlex.quote(reference.name)} --reference {reference.version}"
    see = f"see attrail floor {which}, and choose with its --accept or --versions"
    if choice is None:
        raise ConfigError(
            f"registry.floor = 'history': nobody chose the earlier versions that are {label}'s floor; {see}"
        )
    if choice.change != section.change:
        raise ConfigError(
            f"the floor of {label} was chosen for change = {choice.change!r}, registry.change is {section.change!r}; "
            f"{see}"
        )
    with registry.asking(f"the versions of {reference.name} cannot be looked up"):
        there = {str(each.version) for each in versions_named(registry.client, reference.name)}
    for each in choice.versions:
        if each.version not in there:
            raise ConfigError(f"{reference.name}/{each.version}, chosen for the floor of {label}, is gone; {see}")
    return FloorVersions(tuple(f"models:/{reference.name}/{each.version}" for each in choice.versions), choice)
