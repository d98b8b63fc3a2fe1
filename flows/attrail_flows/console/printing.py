"""What the commands print."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attrail_explainers.explainer import explainer_class, explainer_names
from attrail_flows.audit_steps.summary import lines_beside
from attrail_monitoring.decisions.decision_statistic import decision_statistic_names, make_decision_statistic
from attrail_monitoring.formatting import number
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.maps.strata import HEADLINES
from attrail_monitoring.verdict.judged import DECISIONS

COLOURS = {"PASS": "green", "DRIFT": "red", "INCONCLUSIVE": "yellow", "left out": "yellow"}
WIDTH = 80  # where the output is no terminal
DECIDES = "\N{BLACK LEFT-POINTING SMALL TRIANGLE}"
LONGEST_NAME = 20  # as long as the names of our own: shown whole, distances are broken between words sooner
MOST_CLASSES = 6  # rows about single classes that a screen shows of a slice


def console(*, stderr: bool = False) -> Console:
    """Standard output, or error, as wide as the terminal; numbers and names are not coloured by guesses."""
    return Console(width=None if Console(stderr=stderr).is_terminal else WIDTH, highlight=False, stderr=stderr)


def table_of(title: str, *columns: str, numbers: Collection[str] = ()) -> Table:
    """An empty table in which long names are folded, and the columns of ``numbers`` are kept whole."""
    table = Table(
        title=escape(title) or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False
    )
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in numbers)
    return table


def fitted(table: Table, out: Console) -> Table:
    """The table, its gaps narrower where names would be folded otherwise."""
    if out.measure(table, options=out.options.update(width=10 * WIDTH)).maximum > out.width:
        table.padding = (0, 0)
    return table


def print_audit(document: Mapping[str, Any]) -> None:
    """Every row that the verdict can rest on, what counts beside them, the verdict, and what to do next."""
    out = console()
    reference, candidate = document["reference"]["label"], document["candidate"]["label"]
    out.print(escape(f"{candidate} against {reference}, change: {document['change']}"), style="bold")
    for each in document["slices"]:
        out.print()
        rows = [row for row in document["judged"] if row["slice"] == each["name"]]
        of_classes = [row for row in rows if row["of_class"]]
        left_out = of_classes[MOST_CLASSES:]
        out.print(fitted(_judged(each, [row for row in rows if row not in left_out]), out))
        if left_out:
            out.print(f"and {len(left_out)} more of {len(of_classes)} rows about single classes, in the report")
        out.print(escape(_accuracy(each, reference, candidate)), soft_wrap=True)
    supporting = sum(row["stratum"] in HEADLINES and not row["primary"] for row in document["measurements"])
    out.print(f"\n{supporting} supporting statistics, which take no part in the verdict, are in the report")
    for line in lines_beside(document):
        out.print(escape(line), soft_wrap=True)
    verdict = document["verdict"]
    out.print(f"[bold {COLOURS[verdict]}]{verdict}[/]: {escape(document['reason'])}", soft_wrap=True)
    if document["next_step"]:
        out.print(escape(f"next: {document['next_step']}"), soft_wrap=True)
    out.print(escape(f"MLflow run {document['run_id']}, report: {document['report_location']}"), soft_wrap=True)


def print_calibration(document: Mapping[str, Any]) -> None:
    """The floor of every primary statistic on the images that the verdict rests on, and where it is kept."""
    out = console()
    out.print(f"noise floor: {len(document['models'])} {document['source']}", style="bold")
    rows = [row for row in document["floors"] if row["stratum"] in HEADLINES]
    decided = (row for row in document["decisions"] if row["stratum"] in HEADLINES)
    rows += [row | {"explainer": DECISIONS, "distances": row["values"]} for row in decided]
    for place in dict.fromkeys((row["slice"], row["stratum"]) for row in rows):
        table = table_of(f"slice {', '.join(place)}", "explainer", "statistic", "distances")
        for row in rows:
            if (row["slice"], row["stratum"]) == place:
                distances = ", ".join(number(each) for each in row["distances"])
                table.add_row(escape(row["explainer"]), row["statistic"], distances)
        out.print()
        out.print(table)
    out.print(f"MLflow run {document['run_id']}, key {document['key']}", soft_wrap=True)


def print_explainers() -> None:
    """Every explainer with what it needs of a model and what it is."""
    table = table_of("", "explainer", "needs", "what it is", numbers=("explainer",))
    for name in explainer_names():
        method = explainer_class(name)
        table.add_row(name, ", ".join(sorted(method.needs)), _first_line(method))
    console().print(table)


def print_statistics() -> None:
    """Every statistic with its range and what it is."""
    table = table_of("", "statistic", "range", "decides", "what it is", numbers=("statistic", "range"))
    for name in statistic_names():
        statistic = make_statistic(name)
        decides = "yes" if statistic.primary else "shown only"
        table.add_row(name, f"0..{statistic.upper:g}", decides, _first_line(type(statistic)))
    for name in decision_statistic_names():
        decision = make_decision_statistic(name)
        ends = f"{decision.least:g}..{decision.upper:g}"
        table.add_row(name, ends, "yes", f"Of decisions: {_first_line(type(decision))}")
    console().print(table)


def _judged(slice_: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Table:
    """The ``rows`` of one slice; a triangle marks those that the verdict rests on."""
    pictures, count = slice_.get("pictures"), slice_["images"]
    title = f"slice {slice_['name']}, {f'{count} questions about {pictures}' if pictures else count} images"
    named = [("explainer", "explainer"), ("evidence", "what")]
    short = [column for column, key in named if all(len(row[key]) <= LONGEST_NAME for row in rows)]
    whole = (*(short or ("distance", "limit")), "verdict")
    table = table_of(title, "explainer", "evidence", "distance", "limit", "verdict", numbers=whole)
    for row in rows:
        cells = [escape(row[name]) for name in ("explainer", "what", "distance", "limit")]
        verdict = f"[{COLOURS[row['verdict']]}]{row['verdict']}[/]{' ' + DECIDES if row['decides'] else ''}"
        table.add_row(*cells, verdict)
    return table


def _accuracy(slice_: Mapping[str, Any], reference: str, candidate: str) -> str:
    accuracy = slice_["accuracy"]
    if reference not in accuracy or candidate not in accuracy:
        return f"{slice_['flipped']} predictions differ"
    return (
        f"accuracy: {reference} {accuracy[reference]:.1%}, {candidate} {accuracy[candidate]:.1%}; "
        f"{slice_['flipped']} predictions differ"
    )


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]
