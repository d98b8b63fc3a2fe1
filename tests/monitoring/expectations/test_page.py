"""The page of an audit's expectations: one file that loads nothing, in words; and Data Docs when asked for."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import great_expectations as gx
import pandas as pd
import pytest
from great_expectations.data_context.data_context.context_factory import project_manager

from attrail_explainers.errors import RecordError
from attrail_monitoring.expectations.data_docs import build_data_docs
from attrail_monitoring.expectations.inputs import validate_attributions, validate_slice_table
from attrail_monitoring.expectations.page import render_rule_page
from attrail_monitoring.expectations.rule_tables import validate_measurements
from attrail_monitoring.expectations.rules import (
    ExpectAttributionDriftToStayBelowMargin,
    ExpectUndefinedMapsToStayBelow,
)
from attrail_monitoring.slices.slice_table import label_indices, read_slice_table

EVIL = "<script>alert('x')</script>"
TITLE = "digits/8 against digits/1"


class Page(HTMLParser):
    """Every element of a page with its attributes, and the text a reader sees."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.elements, self.open, self.pieces = [], [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if not self.open or self.open[-1] != "style":
            self.pieces.append(text)

    @property
    def text(self):
        return re.sub(r"\s+", " ", "".join(self.pieces))


@pytest.fixture
def rows():
    """A measurements table of two explainers; shap's evidence moved."""
    row = {"slice": "validation", "statistic": "coherent_shift", "primary": True, "n": 96, "undefined": 0}
    return pd.DataFrame([row | {"explainer": "gradcam", "upper": 0.04}, row | {"explainer": "shap", "upper": 0.7}])


@pytest.fixture
def validations(rows, maps, tmp_path):
    """Validations as an audit has them: slice table, maps, rules of which one fails."""
    (tmp_path / "slice.csv").write_text("image,label\na.png,0\nb.png,2\n")
    for name in ("a.png", "b.png"):
        (tmp_path / name).touch()
    table = read_slice_table("validation", tmp_path / "slice.csv")
    rules = [
        ExpectAttributionDriftToStayBelowMargin(statistic="coherent_shift", explainer="gradcam", margin=0.1),
        ExpectAttributionDriftToStayBelowMargin(statistic="coherent_shift", margin=0.1, meta={"name": "QM-7"}),
        ExpectUndefinedMapsToStayBelow(share=0.05, severity="warning"),
    ]
    return [
        validate_slice_table(table, label_indices(table, []), 3),
        validate_attributions([maps([[[1.0, 0.0]], [[0.0, 1.0]]])]),
        validate_measurements(rows, rules),
    ]


def test_every_expectation_is_there_with_what_was_observed(validations):
    page = Page(render_rule_page(validations, TITLE))
    checks = [check for validation in validations for check in validation.checks]
    assert len(checks) == 9
    for check in checks:
        met = "MET" if check.success else "NOT MET"
        name = f"{check.name}: " if check.name else ""
        assert f"{met} {name}{check.expected} Observed: {check.observed}" in page.text
    for sentence in (
        "Every image file that the table names exists. Observed: true of all 2 rows",
        "Every label is a class: 0..2. Observed: true of all 2 rows",
        "The table of slice validation, before any model is loaded.",
        "Severity: warning",
        "The suite is kept in expectations/suite-rules.json, its full result in expectations/rules.json.",
    ):
        assert sentence in page.text


def test_what_was_not_met_comes_first(validations):
    page = Page(render_rule_page(validations, TITLE))
    before = page.text.partition("slice-validation")[0]
    assert f"{TITLE} NOT MET 1 of 9 expectations was not met." in before
    assert "QM-7: The coherent shift by shap on slice validation reaches 0.7, not below 0.1." in before


def test_all_met(validations):
    assert f"{TITLE} MET All 6 expectations were met." in Page(render_rule_page(validations[:2], TITLE)).text


def test_many_failures_are_counted(rows):
    rules = [
        ExpectAttributionDriftToStayBelowMargin(statistic="coherent_shift", slice=f"s{each}", margin=0.1)
        for each in range(5)
    ]
    text = Page(render_rule_page([validate_measurements(rows, rules)], TITLE)).text
    assert "5 of 5 expectations were not met." in text
    assert "And 2 more below." in text


def test_the_page_is_one_file_that_loads_nothing(validations):
    html = render_rule_page(validations, TITLE)
    page = Page(html)
    assert page.open == []
    assert "http" not in html.replace("http-equiv", "")
    assert not re.search(r"url\(|@import|//", html)
    for tag, attributes in page.elements:
        assert tag not in {"script", "link", "img", "iframe", "object", "a", "base", "form"}
        assert not {"src", "href", "srcset", "style"} & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
    policies = [each["content"] for tag, each in page.elements if each.get("http-equiv") == "Content-Security-Policy"]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_a_hostile_name_is_shown_and_never_run(rows):
    rule = ExpectAttributionDriftToStayBelowMargin(
        statistic="coherent_shift", slice=EVIL, margin=0.1, meta={"name": EVIL}, description=f"{EVIL} \u202etxt"
    )
    html = render_rule_page([validate_measurements(rows, [rule])], EVIL)
    page = Page(html)
    assert "script" not in {tag for tag, _ in page.elements}
    assert page.text.count(EVIL) >= 4
    assert "\u202e" not in html, "a name must not turn the direction of writing"


def test_the_same_validations_give_the_same_bytes(validations):
    assert render_rule_page(validations, TITLE) == render_rule_page(validations, TITLE)


def test_a_page_of_nothing_is_refused():
    with pytest.raises(RecordError, match="at least one"):
        render_rule_page([], TITLE)


def test_data_docs_are_built_when_asked_for(validations, tmp_path):
    before = gx.get_context(mode="ephemeral")
    index = build_data_docs(validations, tmp_path / "docs", datetime(2026, 11, 21, tzinfo=UTC))
    assert project_manager.get_current_project() is before
    pages = sorted(path.relative_to(tmp_path / "docs") for path in index.parent.rglob("*.html"))
    assert len(pages) == 1 + 3 + 3, "an index, three suites, three results"
    (result,) = [path for path in index.parent.rglob("rules.html") if "validations" in path.parts]
    text = " ".join(result.read_text(encoding="utf-8").split())
    assert "The coherent shift by shap on slice validation reaches 0.7, not below 0.1." in text
    assert "2026-11-21T00:00:00Z" in text
