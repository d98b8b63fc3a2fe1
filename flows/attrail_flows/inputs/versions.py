"""The versions of an audit: the compared ones and the noise floor's, found in the registry before a model is loaded."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from attrail_explainers.errors import ConfigError, IncomparableError
from attrail_flows.configuration import AuditConfig
from attrail_flows.inputs import remarks
from attrail_flows.inputs.floor_versions import FloorVersions
from attrail_mlflow.history.choice import FloorChoice, require_files
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_monitoring.inference.prediction_bound import FEWEST

Find = Callable[[str, str], RegisteredVersion]  # a registry's ``resolve``

logger = logging.getLogger("attrail.audit")


@dataclass(frozen=True)
class Versions:
    """A reference and the versions of its noise floor; ``choice`` says who chose these out of its history.

    ``said`` are remarks about the floor.
    """

    reference: RegisteredVersion
    floor: tuple[RegisteredVersion, ...]
    choice: FloorChoice | None = field(default=None, kw_only=True)
    said: tuple[str, ...] = field(default=(), kw_only=True)

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
        base = _without(candidate, base)
    require_same_classes(base.reference.label, base.reference.classes, candidate.label, candidate.classes)
    return ComparedVersions(base.reference, base.floor, candidate, choice=base.choice, said=base.said)


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
    return Versions(reference, tuple(floor), choice=given.choice)


def _without(candidate: RegisteredVersion, base: Versions) -> Versions:
    """The floor that was chosen out of the history without the candidate, if enough is left; ConfigError else."""
    floor = tuple(each for each in base.floor if each.label != candidate.label)
    if base.choice is None:
        raise ConfigError(
            f"{candidate.label} is compared and in the noise floor as well: take it out of registry.floor"
        )
    if len(floor) < FEWEST:
        raise ConfigError(
            f"{candidate.label} is the candidate and one of the {len(base.floor)} versions chosen for the floor of "
            f"{base.reference.label}, which needs {FEWEST}: choose more of them, see attrail floor"
        )
    return replace(base, floor=floor, said=(remarks.own_floor(candidate.label, base.reference.label),))


def warn_of_floor(versions: Versions) -> None:
    """Say what there is to remark about a floor, and it when there are models for one, but too few to be one."""
    for each in versions.said:
        logger.warning(each)
    if 0 < len(versions.floor) < FEWEST:
        logger.warning(remarks.few_models(len(versions.floor)))


def require_chosen_files(registry: Registry, config: AuditConfig, versions: Versions) -> None:
    """Raise EvidenceError when a floor's version has other files than when somebody chose it out of the history."""
    if versions.choice is not None:
        for each in versions.floor:
            require_files(registry, each, versions.choice, allow_pickle=config.policy.allow_pickle)


def require_same_classes(first: str, known: int | None, second: str, other: int | None) -> None:
    """Raise IncomparableError if both numbers of classes are known and differ; ``first`` and ``second`` are labels."""
    if known is not None and other is not None and known != other:
        raise IncomparableError(
            f"{first} has {known} classes, {second} has {other}: only versions with the same classes can be compared"
        )
