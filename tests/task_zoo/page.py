"""The page of the zoo of tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kind import Kind

HEAD = """# Does the verdict hold for other tasks?

Models that `make task-zoo` trains on drawn shapes, which a clone alone can make: a champion, retrains of it that differ
by their seed alone, and a candidate with a planted shortcut, whose training images had marks in their corner that gave
the answers away, as the validation images have. Champion and retrains saw marks at random. Each retrain is audited with
the champion as the reference and the five others as the noise floor, the candidate with five of them; the change is
"retrain", everything else at its defaults. Written by `tests/task_zoo`; seconds are those of the machine that wrote it.
"""


@dataclass(frozen=True)
class Audited:
    """What an audit said of a candidate that is ``what``, in so many ``seconds``; ``training`` one took so many."""

    what: str
    record: Mapping[str, Any]
    seconds: float
    training: float

    @property
    def verdict(self) -> str:
        return str(self.record["verdict"])

    @property
    def found(self) -> str:
        """The evidence that moved beyond its limit."""
        moved = [each for each in self.record["judged"] if each["verdict"] == "DRIFT" and each["decides"]]
        return "; ".join(f"{each['explainer']} {each['what']} {each['distance']}" for each in moved) or "nothing"


def page(kinds: Mapping[str, Kind], audited: Mapping[str, Sequence[Audited]]) -> str:
    """The page in Markdown."""
    honest = [each for found in audited.values() for each in found if each.what == "honest retrain"]
    planted = [each for found in audited.values() for each in found if each.what == "planted shortcut"]
    said = (
        f"Honest retrains called DRIFT: {_count(honest, 'DRIFT')}; PASS: {_count(honest, 'PASS')}. "
        f"Planted shortcuts called DRIFT: {_count(planted, 'DRIFT')}; PASS: {_count(planted, 'PASS')}.\n"
    )
    return "\n".join([HEAD, said, *(_section(name, kinds[name], found) for name, found in audited.items())])


def _section(name: str, kind: Kind, audited: Sequence[Audited]) -> str:
    facts = audited[0].record["slices"][0]
    about = f"{facts['images']} questions about {facts.get('pictures') or facts['images']} images"
    lines = [
        f"## {name}\n",
        f"{kind.says[0].upper()}{kind.says[1:]}; {about}. Training a version took {audited[0].training:.0f} s.\n",
        "| candidate | verdict | accuracy, champion and candidate | moved beyond the limit | seconds |",
        "|---|---|---|---|---:|",
    ]
    return "\n".join([*lines, *map(_row, audited), ""])


def _row(each: Audited) -> str:
    accuracies = each.record["slices"][0]["accuracy"]
    labels = [each.record[role]["label"] for role in ("reference", "candidate")]
    known = ", ".join(f"{accuracies[label]:.1%}" for label in labels if label in accuracies)
    return f"| {each.what} | {each.verdict} | {known or 'unknown'} | {each.found} | {each.seconds:.0f} |"


def _count(audited: Sequence[Audited], verdict: str) -> str:
    return f"{sum(each.verdict == verdict for each in audited)} of {len(audited)}"
