"""Tables in Markdown."""

from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first column to the left, all others to the right."""
    lines = [_line(head), "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *map(_line, rows)])


def number(value: float) -> str:
    """Two decimals, a dash for NaN."""
    return "-" if value != value else f"{value:.2f}"  # noqa: PLR0124 - NaN alone differs from itself


def percent(value: float) -> str:
    return "-" if value != value else f"{100 * value:.1f} %"  # noqa: PLR0124


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
