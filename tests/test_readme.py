"""The README is short, says what is there, and its examples are taken by the programs."""

import re
import tomllib
from pathlib import Path
from typing import Any

import mlflow
import pytest
from torch import nn

from attrail_flows.configuration import read_config

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = TEXT.splitlines()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def test_it_is_short() -> None:
    assert len(LINES) < 200


def test_the_two_commands_come_first_and_the_picture_before_line_60() -> None:
    assert [line.split("#")[0].strip() for line in blocks("console")[0].splitlines()] == ["$ make demo", "$ make test"]
    picture = next(number for number, line in enumerate(LINES) if line.startswith("!["))
    assert picture < 60
    path = re.search(r"\((.*?)\)", LINES[picture])
    assert path is not None
    assert (ROOT / path[1]).is_file()


def test_configuration_example_is_accepted(tmp_path: Path) -> None:
    (example,) = blocks("toml")
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


@pytest.mark.usefixtures("no_experiment")
def test_a_model_is_logged_as_the_example_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = blocks("python")
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))
    names: dict[str, Any] = {"model": model}
    exec(
        compile(example.replace("http://127.0.0.1:5000", f"sqlite:///{tmp_path}/mlflow.db"), "README.md", "exec"), names
    )
    version = mlflow.MlflowClient().get_model_version("digits", "1")
    logged = mlflow.get_logged_model(version.source.removeprefix("models:/"))
    assert logged.name == "model"


def test_the_table_of_error_rates_is_quoted_from_what_was_measured() -> None:
    """Every row stands in the file that ``make zoo`` wrote."""
    section = TEXT.partition("## How often it is right")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    written = (ROOT / "monitoring/ZOO.md").read_text(encoding="utf-8").splitlines()
    assert len(rows) >= 9
    assert all(row in written for row in rows)
