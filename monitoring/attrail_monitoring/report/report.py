"""Render the report of an audit: one page for a reader who has nothing but a browser.

Every file of ``sections/`` is one section; the number in front of its name is its place on the page. A section sees
``record`` (AuditRecord), ``headline`` (Headline), ``decided`` (the JudgedRows that the verdict rests on), ``exhibits``
(one ExplainerPanel per slice and explainer), ``strata``, ``classes``, ``strategies`` and ``checks``, lists of what
their modules make, ``tiers`` (what each tier of floors is, by its letter), ``sections`` (the paths of all sections, in
order) and ``format`` (the name of the record's format). It may use the macros of ``macros.html``, and the filters of
``_environment``, which write numbers, chances and names as people read them. A name that is missing is an error
(``jinja2.UndefinedError``) and no empty place.
Model, class and file names come from strangers: everything a section prints is escaped, and characters that do not
print are shown by their codes.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from attrail_explainers.attributions import Attributions
from attrail_explainers.slice import Slice
from attrail_monitoring import formatting
from attrail_monitoring.audit_record import FORMAT, AuditRecord
from attrail_monitoring.floor.noise_floor import TIERS, models_of
from attrail_monitoring.maps.strata import named, with_name
from attrail_monitoring.report.checks import checks_of
from attrail_monitoring.report.classes import classes_of
from attrail_monitoring.report.explainer_panel import exhibits_of
from attrail_monitoring.report.headline import headline_of
from attrail_monitoring.report.outcomes import strata_of
from attrail_monitoring.report.strategies import strategies_of
from attrail_monitoring.verdict.policy import Policy

FOLDER = Path(__file__).parent


def render_report(
    record: AuditRecord, maps: Mapping[tuple[str, str, str], Attributions], slices: Mapping[str, Slice]
) -> str:
    """The report as HTML in one file: no script, no network, no other file; the same audit gives the same text.

    ``maps`` has the keys (slice, explainer, role) with role "reference" or "candidate", ``slices`` the slices' names.
    RecordError when either lacks what the record's findings are about.
    """
    findings = record.report.findings
    page = _environment(FOLDER).get_template("page.html")
    return page.render(
        record=record,
        exhibits=exhibits_of(record, maps, slices),
        headline=headline_of(record),
        strata=strata_of(findings),
        classes=classes_of(findings, record.policy.get("fewest_images", Policy.fewest_images)),
        strategies=strategies_of(record, maps, slices),
        checks=checks_of(record),
        decided=[row for row in record.judged if row.decides],
        tiers=TIERS,
        sections=section_names(FOLDER),
        format=FORMAT,
    )


def section_names(folder: Path) -> list[str]:
    """Templates of ``sections/`` in the order of their numbers, as paths inside ``folder``."""
    files = [path.name for path in (folder / "sections").glob("*-*.html") if path.name.partition("-")[0].isdigit()]
    return [f"sections/{name}" for name in sorted(files, key=lambda name: (int(name.partition("-")[0]), name))]


def _environment(folder: Path) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_printable,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": formatting.number,
        "percent": formatting.percent,
        "times": formatting.times,
        "share": formatting.share,
        "models_of": models_of,
        "chance": formatting.chance,
        "spoken": formatting.spoken,
        "sentence": formatting.sentence,
        "moment": formatting.moment,
        "flat": formatting.flat,
        "looked_up": formatting.looked_up,
        "named": named,
        "lane_name": formatting.lane_name,
        "with_name": with_name,
    }
    return environment


def _printable(value: Any) -> Any:
    """Text with characters that do not print as codes: one that turns the direction of writing can forge a name."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in value)
