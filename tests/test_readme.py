"""The README says what is there, and its examples run."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from attrail_explainers.explainer import explainer_names
from attrail_flows.configuration import read_config
from attrail_monitoring.maps.statistic import statistic_names

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("name", [*explainer_names(), *statistic_names()])
def test_tables_list_everything_there_is(name: str) -> None:
    assert f"| `{name}` |" in TEXT


def test_the_two_commands_come_first_and_the_picture_before_line_60() -> None:
    lines = TEXT.splitlines()
    assert [line.split("#")[0].strip() for line in blocks("console")[0].splitlines()] == ["$ make demo", "$ make test"]
    picture = next(number for number, line in enumerate(lines) if line.startswith("!["))
    assert picture < 60
    path = re.search(r"\((.*?)\)", lines[picture])
    assert path is not None
    assert (Path(__file__).resolve().parents[1] / path[1]).is_file()


def test_configuration_example_is_accepted(tmp_path: Path) -> None:
    example, _ = blocks("toml")
    assert set(tomllib.loads(example)) == {
        "registry",
        "slice",
        "preprocessing",
        "explainer",
        "policy",
        "sequence",
        "rule",
        "run",
    }
    path = tmp_path / "attrail.toml"
    path.write_text(example)
    config = read_config(path)
    assert config.registry.candidate == "8"
    assert config.slices[0].source == tmp_path / "slices" / "validation.csv"


def test_python_examples_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one on the measurements of the first."""
    explaining, holding = blocks("python")
    names: dict[str, Any] = {}
    exec(compile(explaining, "README.md", "exec"), names)
    assert capsys.readouterr().out.startswith(("PASS", "DRIFT", "INCONCLUSIVE"))
    monkeypatch.chdir(tmp_path)
    pd.DataFrame([finding.row() for finding in names["report"].findings]).to_csv("measurements.csv", index=False)
    exec(compile(holding.replace('"validation"', '"images"').replace('"shap"', '"lime"'), "README.md", "exec"), names)
    (found,) = names["result"].run_results.values()
    assert len(found.results) == 1


@pytest.mark.parametrize(
    ("title", "file", "fewest"),
    [("What it costs", "explainers/BENCH.md", 8), ("How often it is right", "monitoring/ZOO.md", 9)],
)
def test_tables_are_quoted_from_what_was_measured(title: str, file: str, fewest: int) -> None:
    """Every row stands in the file that ``make bench`` or ``make zoo`` wrote."""
    section = TEXT.partition(f"## {title}")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    written = (Path(__file__).resolve().parents[1] / file).read_text(encoding="utf-8").splitlines()
    assert len(rows) >= fewest
    assert all(row in written for row in rows)
