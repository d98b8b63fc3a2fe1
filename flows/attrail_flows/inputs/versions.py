"""The versions of an audit: the compared ones and the noise floor's, found in the registry before a model is loaded."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from attrail_explainers.errors import ConfigError, IncomparableError
from attrail_flows.configuration import AuditConfig
from attrail_flows.inputs import remarks
from attrail_flows.inputs.floor_versions import FloorVersions
from attrail_mlflow.registry.registry import RegisteredVersion
from attrail_monitoring.inference.prediction_bound import FEWEST

Find = Callable[[str, str], RegisteredVersion]  # a registry's ``resolve``

logger = logging.getLogger("attrail.audit")


@dataclass(frozen=True)
class Versions:
    """A reference and the versions of its noise floor."""

    reference: RegisteredVersion
    floor: tuple[RegisteredVersion, ...]

    @property
    def every(self) -> tuple[RegisteredVersion, ...]:
        return (self.reference, *self.floor)


@dataclass(frozen=True)
class ComparedVersions(Versions):
    """The versions an audit compares."""

    candidate: RegisteredVersion

    @property
    def every(self) -> tuple[RegisteredVersion, ...]:
        return (self.reference, self.candidate, *self.floor)


def resolve(find: Find, config: AuditConfig, floor: FloorVersions) -> ComparedVersions:
    """Find every version in the registry and refuse what can be seen to be wrong before a model is loaded."""
    section = config.registry
    if section.candidate is None:
        raise ConfigError("no candidate: set registry.candidate in the configuration or give --candidate")
    base, candidate = resolve_floor(find, config, floor), find(section.model, section.candidate)
    if candidate.label == base.reference.label:
        raise ConfigError(
            f"the candidate {section.candidate!r} and the reference {section.reference!r} are the same version, "
            f"{candidate.label}: nothing can have moved; name two versions"
        )
    if candidate.label in [each.label for each in base.floor]:
        raise ConfigError(
            f"{candidate.label} is compared and in the noise floor as well: take it out of registry.floor"
        )
    require_same_classes(base.reference.label, base.reference.classes, candidate.label, candidate.classes)
    return ComparedVersions(base.reference, base.floor, candidate)


def resolve_floor(find: Find, config: AuditConfig, given: FloorVersions) -> Versions:
    """Find the reference and its noise floor's versions, and refuse a floor that can be seen to be none."""
    section = config.registry
    reference, *floor = (find(section.model, each) for each in (section.reference, *given.spellings))
    labels = [each.label for each in floor]
    if reference.label in labels:
        raise ConfigError(
            f"{reference.label} is compared and in the noise floor as well: take it out of registry.floor"
        )
    if len(set(labels)) < len(labels):
        raise ConfigError("registry.floor names a version twice: every reference retrain counts once")
    for each in floor:
        require_same_classes(reference.label, reference.classes, each.label, each.classes)
    return Versions(reference, tuple(floor))


def warn_of_few(versions: Versions) -> None:
    """Say it when there are models for a floor, but too few to be one."""
    if 0 < len(versions.floor) < FEWEST:
        logger.warning(remarks.few_models(len(versions.floor)))


def require_same_classes(first: str, known: int | None, second: str, other: int | None) -> None:
    """Raise IncomparableError if both numbers of classes are known and differ; ``first`` and ``second`` are labels."""
    if known is not None and other is not None and known != other:
        raise IncomparableError(
            f"{first} has {known} classes, {second} has {other}: only versions with the same classes can be compared"
        )
