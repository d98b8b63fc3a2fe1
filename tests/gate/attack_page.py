"""The page mlflow_plugin/ATTACKS.md: each of three commands writes its own sections and leaves the others'."""

import os
import platform
import re
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

PAGE = Path(__file__).parents[2] / "mlflow_plugin" / "ATTACKS.md"
HEAD = "# The gate and the trail against attacks\n\nWritten by `make gate`; do not edit.\n"
SECTIONS = ("Attacks", "Honest promotions", "Servers that must not start", "Settings", "Latency", "Changed evidence")


def put(sections: dict[str, str], path: Path = PAGE) -> None:
    """Write sections, each under its title, in the place of what they said before."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    kept = dict(re.findall(r"^## (.+?)\n\n(.*?)\n*(?=^## |\Z)", text, flags=re.MULTILINE | re.DOTALL)) | sections
    parts = [HEAD, *(f"## {title}\n\n{kept[title].strip()}\n" for title in SECTIONS if title in kept)]
    path.write_text("\n".join(parts), encoding="utf-8")


def table(heads: Sequence[str], rows: Iterable[Sequence[object]], left: int = 1) -> str:
    """A table whose columns after the first ``left`` hold numbers."""
    marks = ["---" if column < left else "---:" for column in range(len(heads))]
    lines = [heads, marks, *([str(cell).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("| --- ", "|---").replace("| ---: ", "|---:") for line in lines)


def software() -> str:
    """What a section was made with."""
    load = os.getloadavg()[0]
    found = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "sqlalchemy", "cryptography"))
    return f"Python {platform.python_version()}, {found}; {os.cpu_count()} cores, load {load:.1f} when it ended."
