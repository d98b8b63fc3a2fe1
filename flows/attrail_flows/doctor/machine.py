"""Checks of this machine: the packages that are installed, room on its disks, its GPUs."""

import shutil
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import Distribution, PackageNotFoundError
from pathlib import Path

from packaging.requirements import Requirement

from attrail_flows.doctor.result import DoctorResult, ok, warning, wrong

# What is known to happen with a version that attrail's own metadata excludes.
KNOWN = {
    "fastapi": "Prefect 3.8's server refuses JSON null with 0.151, and cannot start with 0.155",
    "sqlalchemy": "Prefect 3.8's schedules never fire with 2.1",
    "torch": "the CPU wheel of 2.13.0 breaks torchvision",
}
PAIRS = ("attrail", "prefect", "mlflow", "torchvision")  # whose requirements must hold
ROOM = 5 * 1024**3  # bytes: a large model, its archive unpacked, and an audit's maps
DRIVER = Path("/proc/driver/nvidia/version")


def packages(path: Sequence[str] | None = None) -> Iterator[DoctorResult]:
    """Whether the packages that are installed can work together, by what each says it needs.

    ``path`` is where packages are looked for, as ``sys.path``.
    """
    where = sys.path if path is None else list(path)
    broken = [each for name in PAIRS for each in _unmet(name, where)]
    yield from broken
    if not broken:
        yield ok(", ".join(f"{name} {_found(name, where).version}" for name in (*PAIRS, "torch")))


def disk(folders: Sequence[Path], room: int = ROOM) -> Iterator[DoctorResult]:
    """Whether there is room where audits write: ``room`` bytes."""
    for folder in folders:
        try:
            free = shutil.disk_usage(folder).free
        except OSError as error:
            yield wrong(f"{folder} cannot be looked at ({error.strerror})", "make the folder, or correct its name")
            continue
        text = f"{folder} has {free / 1e9:.1f} GB left"
        yield ok(text) if free >= room else wrong(text, f"free some: {room / 1e9:.1f} GB are little for an audit")


def gpu(driver: Path = DRIVER) -> Iterator[DoctorResult]:
    """Whether torch can compute on the GPUs of this machine; ``driver`` is the file that NVIDIA's driver shows."""
    from attrail_explainers.runtime.gpu import find_gpus  # noqa: PLC0415 - it loads torch

    found = find_gpus()
    if found.trouble:
        yield wrong(f"torch cannot compute on a GPU: {found.trouble}", "install a torch built for this GPU and driver")
    elif found.names:
        yield ok(f"torch computes on {', '.join(found.names)} (CUDA {found.cuda})")
    elif driver.exists():
        built = f"built for CUDA {found.cuda}" if found.cuda else "built without CUDA"
        yield warning(
            f"there is an NVIDIA driver, but torch, {built}, sees no GPU", "audits run on the CPU until it does"
        )
    else:
        yield ok("no GPU here: audits run on the CPU")


def _unmet(name: str, where: list[str]) -> Iterator[DoctorResult]:
    """The requirements of a package that what is installed does not meet."""
    try:
        stated = _found(name, where).requires or []
    except PackageNotFoundError:
        yield wrong(f"{name} is not installed", "install attrail with its constraints.txt")
        return
    for requirement in map(Requirement, stated):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        finding = _held(name, requirement, where)
        if finding is not None:
            yield finding


def _held(name: str, requirement: Requirement, where: list[str]) -> DoctorResult | None:
    do = f"pip install '{requirement.name}{requirement.specifier}'"
    try:
        version = _found(requirement.name, where).version
    except PackageNotFoundError:
        return wrong(f"{name} needs {requirement.name}, which is not installed", do)
    if requirement.specifier.contains(version, prereleases=True):
        return None
    why = KNOWN.get(requirement.name.lower())
    return wrong(f"{name} does not work with {requirement.name} {version}" + (f" ({why})" if why else ""), do)


def _found(name: str, where: list[str]) -> Distribution:
    found = next(iter(Distribution.discover(name=name, path=where)), None)
    if found is None:
        raise PackageNotFoundError(name)
    return found
