"""What ``attrail check`` and ``attrail list checks`` print."""

import math

from rich.console import Console
from rich.table import Table

from attrail_explainers.assessment import Assessment, Outcome
from attrail_explainers.check import check_class, check_names


def print_assessment(found: Assessment) -> None:
    """One row per check: mean and interval over images, chance where it is known, and what good looks like."""
    maps = found.maps
    count, undefined = len(maps.sample_ids), len(maps.undefined)
    console = Console(width=None if Console().is_terminal else 140, highlight=False)
    table = Table(title=f"{found.explainer} on {maps.model}, slice {maps.slice_name}: {count} images")
    for column in ("check", "mean", "95 % interval", "chance", "images", "what good looks like"):
        table.add_column(column, justify="right" if column in ("mean", "chance", "images") else "left")
    for name, outcome in found.outcomes.items():
        table.add_row(name, *_numbers(outcome), str(count - outcome.undefined), outcome.check.good)
    console.print(table)
    if undefined:
        sample, reason = next(iter(maps.undefined.items()))
        console.print(f"{undefined} of {count} images have no map and do not count, e.g. {sample}: {reason}")


def print_checks() -> None:
    """Every check with what good looks like."""
    table = Table(box=None)
    for column in ("check", "better", "what good looks like"):
        table.add_column(column)
    for name in check_names():
        kind = check_class(name)
        table.add_row(name, kind.better.value, kind.good)
    Console().print(table)


def _numbers(outcome: Outcome) -> list[str]:
    low, high = outcome.interval
    interval = "-" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    return [_number(outcome.mean), interval, _number(outcome.chance)]


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
