"""What ``attrail check`` and ``attrail list checks`` print."""

import math

from rich.markup import escape

from attrail_explainers.assessment.assessment import Assessment, Outcome
from attrail_explainers.assessment.check import check_class, check_names
from attrail_flows.console.printing import console, table_of


def print_assessment(found: Assessment) -> None:
    """One row per check: mean and interval over images, chance where it is known; below, what good looks like."""
    maps = found.maps
    count, undefined = len(maps.sample_ids), len(maps.undefined)
    out, numbers = console(), ("mean", "95 % interval", "chance", "images")
    title = f"{found.explainer} on {maps.model}, slice {maps.slice_name}: {count} images"
    table = table_of(title, "check", *numbers, numbers=numbers)
    for name, outcome in found.outcomes.items():
        table.add_row(name, *_numbers(outcome), str(count - outcome.undefined))
    out.print(table)
    for name, outcome in found.outcomes.items():
        out.print(f"good {name}: {outcome.check.good}")
    if undefined:
        sample, reason = next(iter(maps.undefined.items()))
        said = f"{undefined} of {count} images have no map and do not count, e.g. {sample}: {reason}"
        out.print(escape(said), soft_wrap=True)


def print_checks() -> None:
    """Every check with what good looks like."""
    table = table_of("", "check", "better", "what good looks like", numbers=("check", "better"))
    for name in check_names():
        kind = check_class(name)
        table.add_row(name, kind.better.value, kind.good)
    console().print(table)


def _numbers(outcome: Outcome) -> list[str]:
    low, high = outcome.interval
    interval = "-" if math.isnan(low) else f"{low:.3f} to {high:.3f}"
    return [_number(outcome.mean), interval, _number(outcome.chance)]


def _number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
