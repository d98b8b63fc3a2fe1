"""The pages of the four packages: every public name, every room, and examples that run; links of all pages lead on."""

import ast
import importlib
import re
import runpy
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from attrail_explainers.assessment.check import check_names
from attrail_explainers.explainer import explainer_names
from attrail_explainers.inspection.exhibit import exhibit_names
from attrail_mlflow.registry.preprocessing import stated_preprocessing
from attrail_monitoring.decisions.decision_statistic import decision_statistic_names
from attrail_monitoring.maps.statistic import statistic_names

ROOT = Path(__file__).resolve().parents[1]
ARCHITECTURE = runpy.run_path(str(ROOT / "tests" / "test_architecture.py"))
FOLDERS: dict[str, Path] = ARCHITECTURE["PACKAGES"]
ROOMS: dict[str, str] = ARCHITECTURE["ROOMS"]
LISTED = {
    "attrail_explainers": [*explainer_names(), *check_names(), *exhibit_names()],
    "attrail_monitoring": [*statistic_names(), *decision_statistic_names()],
}
MARKDOWN = sorted(
    path for path in ROOT.rglob("*.md") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)
each_package = pytest.mark.parametrize("package", FOLDERS)


def page_of(package: str) -> str:
    return (FOLDERS[package] / "README.md").read_text(encoding="utf-8")


def examples_of(package: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page_of(package), flags=re.MULTILINE | re.DOTALL)


@each_package
def test_every_public_name_has_an_entry_and_an_example(package: str) -> None:
    entries = set(re.findall(r"^\| `(\w+)` \| \S", page_of(package).partition("\n```")[0], flags=re.MULTILINE))
    public = set(importlib.import_module(package).__all__)
    assert entries >= public
    used = {
        name.id for code in examples_of(package) for name in ast.walk(ast.parse(code)) if isinstance(name, ast.Name)
    }
    assert not public - used, "names without an example"


@each_package
def test_rooms_stand_in_walking_order_with_their_captions(package: str) -> None:
    section = page_of(package).partition("## The rooms, in walking order")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `(\w+)(/|\.py)` \| (.+) \|$", section, flags=re.MULTILINE)
    assert [name for name, _, _ in shown] == ROOMS[package].split()
    for name, kind, caption in shown:
        if kind == "/":
            room = importlib.import_module(f"{package}.{name}")
            assert caption == (room.__doc__ or "").replace("``", "`"), f"{name}/ says something else of itself"


@pytest.mark.parametrize(("package", "name"), [(package, name) for package, names in LISTED.items() for name in names])
def test_tables_list_every_plug_in(package: str, name: str) -> None:
    assert f"\n| `{name}` | " in page_of(package)


@pytest.mark.usefixtures("no_experiment")
@pytest.mark.parametrize("package", ["attrail_explainers", "attrail_monitoring", "attrail_mlflow"])
def test_examples_run_one_after_the_other(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of ``attrail_flows`` need a registry: ``tests/flows/test_page.py``."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for code in examples_of(package):
        here = code.replace("sqlite:///mlflow.db", f"sqlite:///{tmp_path}/mlflow.db")  # MLflow keeps what it opened
        exec(compile(here, f"{package}: README.md", "exec"), names)
    if package == "attrail_monitoring":
        (held,) = names["result"].run_results.values()
        assert len(held.results) == 1
    if package == "attrail_mlflow":
        stated = [stated_preprocessing(names["registry"].resolve("animals", number)) for number in ("1", "2")]
        assert [each and each.size for each in stated] == [(64, 64), (224, 224)]


def test_costs_are_quoted_from_what_was_measured() -> None:
    """Every row stands in the file that ``make bench`` wrote."""
    section = page_of("attrail_explainers").partition("## What it costs")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")]
    written = (ROOT / "explainers" / "BENCH.md").read_text(encoding="utf-8").splitlines()
    assert len(rows) >= 8
    assert all(row in written for row in rows)


@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_a_file_and_to_a_heading(path: Path) -> None:
    text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in link:
            continue
        file, _, heading = unquote(link).partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{path.name} links to {link}"
        if heading:
            assert heading in anchors(target), f"{path.name} links to {link}, which has no such heading"


def anchors(page: Path) -> set[str]:
    """Headings of a page as GitHub makes anchors of them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
