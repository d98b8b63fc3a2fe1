"""Which versions make the floor: those that the configuration lists, or those that its word stands for."""

from dataclasses import dataclass

from attrail_explainers.errors import ConfigError
from attrail_flows.configuration import AuditConfig
from attrail_mlflow.registry.registry import Registry

NO_FLOOR = {
    "architecture": "retrains of one architecture say nothing of another; set [policy.margins]",
    "same-function": "where the function stays the same only the explainers' own draws may move maps",
}


@dataclass(frozen=True)
class FloorVersions:
    """The floor's versions, each spelled as ``Registry.resolve`` takes it: alias, version or models:/ URI."""

    spellings: tuple[str, ...] = ()


def floor_versions(registry: Registry, config: AuditConfig) -> FloorVersions:
    """The versions of the configuration's floor; ConfigError where the declared change can have none."""
    section = config.registry
    if section.floor and section.change in NO_FLOOR:
        raise ConfigError(
            f"registry.floor cannot be used with change = {section.change!r}: {NO_FLOOR[section.change]}; leave floor "
            "empty"
        )
    if section.floor == "history":
        raise ConfigError("registry.floor = 'history' is not there yet: list versions")
    if section.floor == "retrains":
        raise ConfigError("registry.floor = 'retrains' is not there yet: list versions")
    return FloorVersions(section.floor)
