"""The control map: which artifact of a bundle answers which provision, and which provisions none answers.

``control_map.json`` is for machines and travels in every bundle; ``python -m attrail_mlflow.trail.control_map``
writes the table for people. It maps provisions to evidence; it is no legal advice and no claim of conformity.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.signing.fields import Reader, listed, optional, text, with_fields

CONTROL_MAP = "control_map.json"
FORMAT = "attrail.control-map/1"


@dataclass(frozen=True)
class Control:
    """A provision, and the artifact in a bundle that answers it (a name with ``*`` for any one part) or None.

    ``how`` says what the artifact shows, or, when there is none, what is not covered.
    """

    framework: str
    provision: str
    asks: str
    artifact: str | None
    how: str

    def answered_by(self, names: Collection[str]) -> bool:
        """Whether one of a bundle's files is the artifact."""
        pattern = "[^/]+".join(re.escape(part) for part in (self.artifact or "").split("*"))
        return any(re.fullmatch(pattern, name) for name in names)


def control_map_text() -> str:
    """The control map as JSON."""
    return files("attrail_mlflow.trail").joinpath(CONTROL_MAP).read_text(encoding="utf-8")


def control_map_for(names: Collection[str]) -> str:
    """The control map of a bundle with these files, as JSON: a row whose artifact is not among them says so."""
    document = json.loads(control_map_text())
    for row in document["controls"]:
        if row["artifact"] and not Control(**row).answered_by(names):
            row["how"] = f"not in this bundle: {row['artifact']}"
            row["artifact"] = None
    return json.dumps(document, indent=1) + "\n"


def read_control_map(content: str) -> tuple[Control, ...]:
    """The controls of a control map; EvidenceError names what is wrong with it."""
    try:
        document: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{CONTROL_MAP} cannot be read: {error}") from error
    controls: tuple[Control, ...] = _MAP(document, CONTROL_MAP)["controls"]
    return controls


def require_answered(controls: Sequence[Control], names: Collection[str]) -> None:
    """Raise EvidenceError, naming the first missing, unless every artifact of the map is among a bundle's files."""
    for each in controls:
        if each.artifact is not None and not each.answered_by(names):
            raise EvidenceError(
                f"{CONTROL_MAP}: {each.framework} {each.provision} names {each.artifact}, which is missing"
            )


def control_table(controls: Sequence[Control]) -> str:
    """The map as a Markdown table."""
    rows = ["| provision | asks for | artifact in the bundle | what it shows |", "|---|---|---|---|"]
    for each in controls:
        artifact = f"`{each.artifact}`" if each.artifact else "**not covered**"
        rows.append(f"| {each.framework}, {each.provision} | {each.asks} | {artifact} | {each.how} |")
    return "\n".join(rows)


def _format(value: Any, where: str) -> str:
    if value != FORMAT:
        raise EvidenceError(f"{where}: expected {FORMAT}, got {value!r}")
    return FORMAT


_CONTROL: Mapping[str, Reader[Any]] = {
    "framework": text,
    "provision": text,
    "asks": text,
    "artifact": optional(text),
    "how": text,
}
_MAP: Reader[dict[str, Any]] = with_fields(
    {"format": _format, "note": text, "controls": listed(with_fields(_CONTROL, Control))}, dict
)

if __name__ == "__main__":
    print("# What answers which provision\n")
    print(json.loads(control_map_text())["note"] + "\n")
    print(control_table(read_control_map(control_map_text())))
