"""What ``attrail floor`` prints: every version taken or left and why, and what was chosen."""

from collections.abc import Iterator, Sequence

from rich.markup import escape

from attrail_flows.console.printing import console, table_of
from attrail_mlflow.history.choice import FloorChoice
from attrail_mlflow.history.proposal import Considered, Proposal
from attrail_monitoring.inference.prediction_bound import FEWEST

COLOURS = {"chosen": "green", "taken": "green", "left": "yellow"}
BETTER = 19  # models, from which on a floor is of tier A


def print_proposal(found: Proposal, choice: FloorChoice | None, change: str, *, stderr: bool = False) -> bool:
    """A row for every version, how many can make a floor, and what was chosen; whether a choice is there and holds."""
    out = console(stderr=stderr)
    out.print(escape(f"floor of {found.label}, change: {change}"), style="bold")
    table = table_of("", "version", "floor", "why", numbers=("version", "floor"))
    for each in found.considered:
        word = _word(each, choice)
        table.add_row(each.version, f"[{COLOURS[word]}]{word}[/]", escape(each.why))
    if found.considered:
        out.print(table)
    for line in (_count(found), *(_chosen(found, choice) if choice else ())):
        out.print(escape(line), soft_wrap=True)
    faults = faults_of(found, choice, change) if choice else []
    for line in faults:
        out.print(escape(f"the choice cannot be used: {line}"), soft_wrap=True, style="red")
    return choice is not None and not faults


def faults_of(found: Proposal, choice: FloorChoice, change: str) -> list[str]:
    """Why a choice can no longer be used."""
    there = {each.version: each for each in found.considered}
    faults = [] if choice.change == change else [f"it was chosen for change = {choice.change!r}, not {change!r}"]
    for each in choice.versions:
        now = there.get(each.version)
        if now is None:
            faults.append(f"version {each.version} is gone")
        elif now.files != each.files:
            faults.append(f"version {each.version} has other files than when it was chosen")
    return faults


def counted(versions: Sequence[Considered]) -> str:
    """Their numbers: "2, 3, 5, 6"."""
    return ", ".join(each.version for each in versions)


def _word(version: Considered, choice: FloorChoice | None) -> str:
    if choice is not None and version.version in [each.version for each in choice.versions]:
        return "chosen"
    return "taken" if version.taken else "left"


def _count(found: Proposal) -> str:
    taken, every = len(found.taken), len(found.considered)
    enough = "enough" if taken >= FEWEST else "too few"
    return (
        f"{taken} of {every} other versions can be taken, {enough}: a floor needs {FEWEST}, and {BETTER} decide better"
    )


def _chosen(found: Proposal, choice: FloorChoice) -> Iterator[str]:
    numbers = [each.version for each in choice.versions]
    said = f": {choice.why}" if choice.why else ""
    yield f"{', '.join(numbers)} were chosen by {choice.by} on {choice.time:%Y-%m-%d %H:%M} UTC{said}"
    more = [each for each in found.taken if each.version not in numbers]
    if more:
        yield f"not among them, though they could be: {counted(more)}; --accept chooses anew, all that can be taken"
