"""What the commands print."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from attrail_explainers.explainer import explainer_class, explainer_names
from attrail_monitoring.statistic import make_statistic, statistic_names
from attrail_monitoring.stratum import HEADLINES

COLOURS = {"PASS": "green", "DRIFT": "red", "INCONCLUSIVE": "yellow"}


def print_audit(document: Mapping[str, Any]) -> None:
    """The verdict, one row per primary statistic and per flagged class, and where the evidence is."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    reference, candidate, verdict = document["reference"], document["candidate"], document["verdict"]
    table = Table(title=f"{candidate['label']} against {reference['label']}, change: {document['change']}")
    for column in ("slice", "explainer", "statistic", "distance", "interval", "floor", "limit", "verdict"):
        table.add_column(column, justify="right" if column in ("distance", "floor", "limit") else "left")
    for row in document["measurements"]:
        if row["primary"] or (row["stratum"] not in HEADLINES and row["verdict"] == "DRIFT"):
            table.add_row(*_cells(row))
    console.print(table)
    supporting = sum(row["stratum"] in HEADLINES and not row["primary"] for row in document["measurements"])
    console.print(f"{supporting} supporting statistics, which take no part in the verdict, are in the report")
    for each in document["slices"]:
        accuracy = each["accuracy"]
        console.print(
            f"accuracy on {each['name']} ({each['images']} images): {reference['label']} "
            f"{accuracy[reference['label']]:.1%}, {candidate['label']} {accuracy[candidate['label']]:.1%}; "
            f"{each['flipped']} predictions differ"
        )
        for caution in each["cautions"]:
            console.print(f"[yellow]caution[/] on {each['name']}: {escape(caution)}", soft_wrap=True)
    for each in (reference, candidate):
        if each["outputs"] != "logits":
            console.print(f"{each['label']} returns {each['outputs']}; versions are compared on the scale of logits")
    console.print(f"[bold {COLOURS[verdict]}]{verdict}[/]: {document['reason']}", soft_wrap=True)
    console.print(f"MLflow run {document['run_id']}, report: {document['report_location']}", soft_wrap=True)


def print_calibration(document: Mapping[str, Any]) -> None:
    """The floor of every primary statistic on the images that the verdict rests on, and where it is kept."""
    console = Console(width=None if Console().is_terminal else 120, highlight=False)
    table = Table(title=f"noise floor: {len(document['models'])} {document['source']}")
    for column in ("slice", "explainer", "statistic", "distances"):
        table.add_column(column)
    for row in document["floors"]:
        if row["stratum"] in HEADLINES:
            distances = ", ".join(_number(each) for each in row["distances"])
            table.add_row(f"{row['slice']}, {row['stratum']}", row["explainer"], row["statistic"], distances)
    console.print(table)
    console.print(f"MLflow run {document['run_id']}, key {document['key']}", soft_wrap=True)


def print_explainers() -> None:
    """Every explainer with what it needs of a model and what it is."""
    table = Table(box=None)
    for column in ("explainer", "needs", "what it is"):
        table.add_column(column)
    for name in explainer_names():
        method = explainer_class(name)
        table.add_row(name, ", ".join(sorted(method.needs)), _first_line(method))
    Console(width=None if Console().is_terminal else 120).print(table)


def print_statistics() -> None:
    """Every statistic with its range and what it is."""
    table = Table(box=None)
    for column in ("statistic", "range", "decides", "what it is"):
        table.add_column(column)
    for name in statistic_names():
        statistic = make_statistic(name)
        decides = "yes" if statistic.primary else "shown only"
        table.add_row(name, f"0..{statistic.upper:g}", decides, _first_line(type(statistic)))
    Console().print(table)


def _cells(row: Mapping[str, Any]) -> list[str]:
    where = row["slice"] if row["stratum"] in HEADLINES else f"{row['slice']}, {row['stratum']}"
    interval = f"{_number(row['lower'])} to {_number(row['upper'])}"
    numbers = [_number(row["value"]), interval, _number(row["floor"]), _number(row["limit"])]
    return [where, row["explainer"], row["statistic"], *numbers, f"[{COLOURS[row['verdict']]}]{row['verdict']}[/]"]


def _first_line(documented: type) -> str:
    return (documented.__doc__ or "").strip().partition("\n")[0]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
