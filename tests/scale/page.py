"""``deploy/SCALE.md``: a part of ``tests/scale`` replaces its own section, and its numbers in ``measured.json``."""

import json
import os
import platform
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "deploy" / "SCALE.md"
MEASURED = Path(__file__).with_name("measured.json")
HEAD = """# What audits cost at scale

Written by `make scale` (`python tests/scale PART`); do not edit. Every number was measured on the machine named under
its section, except where a line says that it is computed or not measured. The load under a section is that of its last
minute: far above the number of its workers, something else ran beside it, and its seconds are upper bounds.
"""
SECTIONS = (
    "Targets",
    "A second audit",
    "Engines",
    "Ray and Dask",
    "Threads on a larger network",
    "What the flow adds",
    "Memory",
    "After kill -9",
    "What one unit costs",
    "A million images, a hundred models",
    "What to buy",
)


def put(sections: Mapping[str, str], path: Path = PAGE) -> None:
    """Write sections, each under its title, in the place of what they said before."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    kept = dict(re.findall(r"^## (.+?)\n\n(.*?)\n*(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)) | sections
    parts = [HEAD, *(f"## {title}\n\n{kept[title].strip()}\n" for title in SECTIONS if title in kept)]
    path.write_text("\n".join(parts), encoding="utf-8")


def note(part: str, facts: Mapping[str, Any], path: Path = MEASURED) -> None:
    """Keep a part's numbers, from which the targets and the extrapolation are computed."""
    path.write_text(json.dumps(measured(path) | {part: facts}, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def measured(path: Path = MEASURED) -> dict[str, Any]:
    """The numbers of every part that was run."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A table whose columns after the first ``left`` hold numbers."""
    marks = ["---" if column < left else "---:" for column in range(len(heads))]
    lines = [heads, marks, *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def software() -> str:
    """What a section was made with."""
    found = ", ".join(f"{name} {version(name)}" for name in ("prefect", "mlflow", "torch", "ray", "distributed"))
    load = os.getloadavg()[0]
    return f"*{processor()}, Python {platform.python_version()}, {found}; load {load:.1f} when it ended.*"


def processor() -> str:
    """The processor's name and how many cores this process may use."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores of {names[0] if names else platform.machine()}"
