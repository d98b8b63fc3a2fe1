"""What can be seen to be wrong before Prefect starts and before any map is computed: all of it, at once.

Neither Prefect nor Great Expectations nor timm is loaded for it, and of a model only its MLmodel file and the names of
its files are fetched.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import TypeVar

from attrail_explainers.errors import AttrailError, ConfigError
from attrail_flows.configuration import AuditConfig
from attrail_flows.inputs.floor_versions import FloorVersions, floor_versions
from attrail_flows.inputs.slices import preprocessing_of, read_table
from attrail_flows.inputs.versions import ComparedVersions, Find, Versions, resolve, resolve_floor
from attrail_flows.sections import SliceSection
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_monitoring.slices.slice_rows import require_rows
from attrail_monitoring.slices.slice_table import read_slice_table

Found = TypeVar("Found", bound=Versions)


class Faults:
    """What was found to be wrong so far."""

    def __init__(self) -> None:
        self.found: list[AttrailError] = []

    @contextlib.contextmanager
    def noted(self) -> Iterator[None]:
        """Note what a block raises of attrail's errors, and go on after the block."""
        try:
            yield
        except AttrailError as error:
            if str(error) not in map(str, self.found):
                self.found.append(error)

    def as_one(self) -> AttrailError:
        """What was found: the one error itself, several as one ConfigError with a line for each."""
        if len(self.found) == 1:
            return self.found[0]
        lines = "".join(f"\n  {place}. {error}" for place, error in enumerate(self.found, start=1))
        return ConfigError(f"{len(self.found)} things are wrong, and nothing was computed:{lines}")


def preflight_audit(config: AuditConfig) -> tuple[Registry, ComparedVersions]:
    """The registry and the versions of an audit, if nothing can be seen to be wrong; see ``preflight``."""
    section = config.registry
    return preflight(config, resolve, (section.reference, section.candidate), floored=True)


def preflight_floor(config: AuditConfig) -> tuple[Registry, Versions]:
    """The registry, the reference and its floor, if nothing can be seen to be wrong; see ``preflight``."""
    return preflight(config, resolve_floor, (config.registry.reference,), floored=True)


def preflight_version(
    config: AuditConfig, spelling: str, *, labelled: bool = True
) -> tuple[Registry, RegisteredVersion]:
    """The registry and one version, if nothing can be seen to be wrong with it; see ``preflight``."""
    registry, found = preflight(config, partial(_alone, spelling=spelling), (spelling,), labelled=labelled)
    return registry, found.reference


def preflight_registry(config: AuditConfig) -> None:
    """Raise what is wrong with the registry's address or a slice's table, where the versions are not known yet."""
    faults = Faults()
    with faults.noted():
        Registry(config.registry.tracking_uri).require_answer()
    for each in config.slices:
        with faults.noted():
            _look_at(config, each, None, labelled=True)
    if faults.found:
        raise faults.as_one()


def preflight(
    config: AuditConfig,
    versions: Callable[[Find, AuditConfig, FloorVersions], Found],
    spellings: Sequence[str | None],
    *,
    labelled: bool = True,
    floored: bool = False,
) -> tuple[Registry, Found]:
    """The registry and the ``versions`` with these spellings, if nothing can be seen to be wrong with them.

    ``floored``: the floor's versions as well.

    Looked at are the registry's address, each version's name and the names of its files, the slices' tables, and
    whether classes and preprocessing fit. Raises the one error that was found, or a ConfigError that lists all.
    """
    faults = Faults()
    found = _registered(config, versions, spellings, faults, floored=floored)
    for each in config.slices:
        with faults.noted():
            _look_at(config, each, found[1].reference if found else None, labelled=labelled)
    if found:
        with faults.noted():
            preprocessing_of(config, found[1].every)
    if faults.found or not found:
        raise faults.as_one()
    return found


def _registered(
    config: AuditConfig,
    versions: Callable[[Find, AuditConfig, FloorVersions], Found],
    spellings: Sequence[str | None],
    faults: Faults,
    *,
    floored: bool,
) -> tuple[Registry, Found] | None:
    """The registry and the versions, None when one is not there; a server that does not answer is asked once."""
    with faults.noted():
        registry = Registry(config.registry.tracking_uri)
        registry.require_answer()
        find, floor = cache(registry.resolve), FloorVersions()
        if floored:
            with faults.noted():
                floor = floor_versions(registry, config)
        for spelling in filter(None, (*spellings, *floor.spellings)):
            with faults.noted():
                version = find(config.registry.model, spelling)
                registry.require_loadable(version, allow_pickle=config.policy.allow_pickle)
        if not any(getattr(each, "transient", False) for each in faults.found):
            return registry, versions(find, config, floor)
    return None


def _alone(find: Find, config: AuditConfig, floor: FloorVersions, spelling: str) -> Versions:
    return Versions(find(config.registry.model, spelling), ())


def _look_at(
    config: AuditConfig, section: SliceSection, reference: RegisteredVersion | None, *, labelled: bool
) -> None:
    """Read a slice's table as far as it can be: what its labels mean depends on the reference."""
    task = config.task.to_task()
    if reference is None:
        labelled = labelled and task.asks_by == "label"
        read_slice_table(section.name, section.source, section.where, section.limit, labelled=labelled)
    else:
        table, labels = read_table(section, reference, task, labelled=labelled)
        require_rows(table, labels, reference.classes)
