"""Confine the process that asks: what is in force then, and what of it the machine could not give.

It must have one thread still: Landlock and seccomp bind the thread that asks, and those that it starts.
"""

import os
import resource
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from attrail_explainers.confinement.kernel import give_up_privileges
from attrail_explainers.confinement.landlock import restrict_files
from attrail_explainers.confinement.system_calls import refuse_calls

MACHINE = (  # what Python and torch read of a machine, and nothing of a person
    *("/usr", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/etc/os-release"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm", "/proc/stat", "/sys/devices/system"),
    *("/dev/urandom", "/dev/random", "/dev/zero"),
)


@dataclass(frozen=True)
class Confinement:
    """What confines a process: in words what is ``in_force``, and what is ``lacking`` and why."""

    in_force: tuple[str, ...]
    lacking: tuple[str, ...] = ()


def confine(writable: Path, readable: Iterable[Path]) -> Confinement:
    """Confine this process for good: it writes beneath one folder alone, and has no sockets and no other processes.

    It reads what Python needs, and beneath ``readable``. Nothing is raised for what this machine cannot give.
    """
    in_force, lacking = [], []
    for words, step in _steps(writable, [*_python(), *readable]):
        try:
            step()
            in_force.append(words)
        except (AttributeError, OSError) as error:  # the C library of another system has no such functions
            lacking.append(f"{words} ({error})")
    return Confinement(tuple(in_force), tuple(lacking))


def limit(memory: int, seconds: int, file_size: int) -> tuple[str, ...]:
    """Let this process take so many bytes and seconds of a processor more than now, and write files of so many bytes.

    Returns that in words.
    """
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set(resource.RLIMIT_AS, _address_space() + memory)
    _set(resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + seconds)
    _set(resource.RLIMIT_FSIZE, file_size)
    return (f"memory: {memory / 2**30:g} GiB beside torch's own", f"processor time: {seconds} s")


def _steps(writable: Path, readable: Iterable[Path]) -> Iterable[tuple[str, Callable[[], object]]]:
    yield "no core dumps", lambda: _set(resource.RLIMIT_CORE, 0)
    yield "no new privileges, none of root's", give_up_privileges
    yield (
        "files: writes beneath its output folder, reads of Python and the model",
        lambda: restrict_files(writable, readable),
    )
    yield "system calls: no sockets, no other process, no tracing, no changes of modes or owners", refuse_calls


def _python() -> Iterable[Path]:
    """Where this Python and what it can import lie, and what it reads of the machine."""
    yield from map(Path, MACHINE)
    yield from map(Path, dict.fromkeys([sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix]))
    yield from (Path(each) for each in sys.path if each)
    for name, module in list(sys.modules.items()):
        if name.startswith("__editable__"):  # setuptools' way to find packages in place
            yield from map(Path, getattr(module, "MAPPING", {}).values())


def _address_space() -> int:
    """Bytes that this process has mapped; 0 where that cannot be read."""
    try:
        pages = int(Path("/proc/self/statm").read_bytes().split()[0])
    except OSError:
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _set(which: int, value: int) -> None:
    """Set a limit that this process cannot raise again, unless it is lower already."""
    _, hard = resource.getrlimit(which)
    least = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (least, least))
