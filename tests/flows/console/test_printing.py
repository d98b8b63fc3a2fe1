"""What the audit prints: every row that decides, in 80 columns, whatever the names are."""

import re
from typing import Any

import pytest

from attrail_flows.audit_steps.summary import lines_beside
from attrail_flows.console.printing import DECIDES, WIDTH, print_audit

LONG = "a_name_that_somebody_took_from_a_folder_of_the_whole_production_line_of_2026"
SEQUENCE = {"name": "nightly", "fed": ["a", "b"], "e_value": 3.5, "peak": 4.25}
RULE = {"name": "QM-7", "success": False, "severity": "critical", "observed": "0.3", "expected": "below 0.1"}


def document(**changes: Any) -> dict[str, Any]:
    row = {
        "slice": "night",
        "distance": "0.300 (0.250 to 0.350)",
        "limit": "0.200 floor",
        "decides": False,
        "of_class": False,
    }
    model = {"outputs": "logits"}
    accuracy = {"net/1": 0.5, "net/2": 1.0}
    return {
        "reference": model | {"label": "net/1"},
        "candidate": model | {"label": "net/2"},
        "change": "retrain",
        "slices": [{"name": "night", "images": 96, "accuracy": accuracy, "flipped": 3, "cautions": ()}],
        "judged": [
            row | {"explainer": "gradcam", "what": "rank_distance", "verdict": "INCONCLUSIVE"},
            row | {"explainer": "together", "what": "single images", "verdict": "DRIFT", "decides": True},
        ],
        "measurements": [{"stratum": "both right", "primary": True}, {"stratum": "both right", "primary": False}],
        "verdict": "DRIFT",
        "reason": "moved",
        "next_step": "",
        "run_id": "5ca1ab1e",
        "report_location": "report.html",
        "sequence": None,
        "policy": {"alpha": 0.05},
        "rules": [],
    } | changes


def test_the_row_that_decides_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    print_audit(document())
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if "0.200 floor" in line]
    assert [line.rstrip().endswith(f"DRIFT {DECIDES}") for line in rows] == [False, True]
    assert "accuracy: net/1 50.0%, net/2 100.0%; 3 predictions differ" in out
    assert "DRIFT: moved\n" in out
    assert "next:" not in out


def test_long_names_are_folded_into_80_columns_and_lose_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Of explainers, classes and slices; brackets are no colours."""
    base = document()
    odd = f"[red]{LONG}"
    slices = [base["slices"][0] | {"name": odd}]
    judged = [
        each | {"slice": odd, "explainer": LONG, "what": f"rank_distance of class 3 ({odd})"} for each in base["judged"]
    ]
    print_audit(document(slices=slices, judged=judged))
    table = capsys.readouterr().out.partition("\n\n")[2].partition("accuracy")[0]
    assert max(len(line) for line in table.splitlines()) <= WIDTH
    assert odd in table.replace("\n", "")
    assert "INCONCLUSIVE" in table
    assert table.count("0.300 (0.250 to 0.350)") == 2


def test_no_statistic_of_ours_is_folded_beside_an_open_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    row = document()["judged"][0]
    open_ = row | {"what": "coherent_shift", "limit": "p 1.0000 / 0.02", "decides": True}
    print_audit(document(judged=[open_, row]))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("gradcam") and "shift" in line]
    assert "coherent_shift" in line
    assert line.rstrip().endswith(f"INCONCLUSIVE {DECIDES}")
    assert len(line) <= WIDTH


def test_wide_numbers_are_broken_between_words_and_names_of_ours_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    wide = {"distance": "-0.0312 (-0.0882 to 0.00832)", "limit": "0.1062 matched noise", "verdict": "INCONCLUSIVE"}
    rows = [
        document()["judged"][0] | wide | {"explainer": explainer, "what": what, "decides": True}
        for explainer, what in (("decisions", "calibration_error"), ("integrated_gradients", "earth_mover_distance"))
    ]
    print_audit(document(judged=rows))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= WIDTH
    words = " ".join(lines).split()
    for row in rows:
        for cell in (row["explainer"], row["what"], *row["distance"].split(), *row["limit"].split()):
            assert cell in words


def test_of_many_classes_a_screen_shows_a_few_and_says_how_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    first, last = document()["judged"]
    classes = [first | {"what": f"shift of class {row}", "of_class": True} for row in range(54)]
    print_audit(document(judged=[first, *classes, last]))
    out = capsys.readouterr().out
    assert re.findall(r"class (\d+)", out) == list("012345")
    assert "and 48 more of 54 rows about single classes, in the report\n" in out
    assert "single images" in out


def test_what_is_missing_stands_under_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    print_audit(document(verdict="INCONCLUSIVE", next_step="add retrains to the floor, which has 5 models"))
    assert "INCONCLUSIVE: moved\nnext: add retrains to the floor, which has 5 models\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, []),
        (
            {"sequence": SEQUENCE},
            ["sequence nightly, 2 audits: e = 3.5, 4.25 at most so far; the alarm at 20 is not raised"],
        ),
        (
            {"sequence": SEQUENCE | {"e_value": 21.0, "peak": 21.0}},
            ["sequence nightly, 2 audits: e = 21; the alarm at 20 is raised"],
        ),
        ({"rules": [RULE]}, ["rule QM-7 not met: 0.3; expected: below 0.1", "0 of 1 rules met"]),
        ({"rules": [RULE | {"success": True}]}, ["1 of 1 rules met"]),
        (
            {"candidate": {"label": "net/2", "outputs": "probabilities"}},
            ["net/2 returns probabilities; versions are compared on the scale of logits"],
        ),
    ],
)
def test_what_counts_beside_the_rows(changes: dict[str, Any], lines: list[str]) -> None:
    assert list(lines_beside(document(**changes))) == lines
