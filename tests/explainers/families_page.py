"""``explainers/FAMILIES.md``: a first part and sections, each written by a run of its own that leaves the others be."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "explainers" / "FAMILIES.md"
HEADING = re.compile(r"^(?=## )", re.MULTILINE)


def first_part(text: str) -> str:
    """What stands before the first section."""
    return HEADING.split(text)[0]


def section(text: str, heading: str) -> str:
    """The section under a heading, "" where there is none."""
    return next((each for each in HEADING.split(text)[1:] if each.startswith(f"## {heading}\n")), "")


def with_first_part(text: str, written: str) -> str:
    """The page with another first part."""
    return "\n".join([written.rstrip("\n") + "\n", *HEADING.split(text)[1:]]) if HEADING.search(text) else written


def with_section(text: str, heading: str, body: str) -> str:
    """The page with a section, in the place of the one under that heading, else at its end."""
    first, *others = HEADING.split(text)
    made = f"## {heading}\n\n{body.strip()}\n"
    headings = [each.partition("\n")[0] for each in others]
    if f"## {heading}" in headings:
        others[headings.index(f"## {heading}")] = made
    else:
        others.append(made)
    return "\n".join(each.strip("\n") + "\n" for each in (first, *others))
