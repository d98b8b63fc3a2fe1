"""The page of an audit's expectations, for a reader who has nothing but a browser.

Great Expectations' Data Docs load from other hosts when they are opened; this page is one file that loads nothing, in
the style of the report.
"""

from collections.abc import Sequence
from pathlib import Path

from attrail_explainers.errors import RecordError
from attrail_monitoring.expectations.validation import Validation
from attrail_monitoring.floor.noise_floor import TIERS
from attrail_monitoring.report.report import FOLDER, _environment

PAGE = Path(__file__).with_name("page.html")


def render_rule_page(validations: Sequence[Validation], title: str) -> str:
    """Every suite and expectation as HTML in one file: what was expected, what was observed, met or not.

    ``title`` says whose, as "digits/8 against digits/1". The same validations give the same text. RecordError when
    there is nothing to show.
    """
    checks = [check for validation in validations for check in validation.checks]
    if not checks:
        raise RecordError("a page of expectations needs at least one that was evaluated; none was given")
    failed = [check for check in checks if not check.success]
    page = _environment(FOLDER).from_string(PAGE.read_text(encoding="utf-8"))
    return page.render(validations=validations, title=title, count=len(checks), failed=failed, tiers=TIERS)
