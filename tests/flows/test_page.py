"""The page of the flows: its example runs, its flows and commands are those there are."""

import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import torch
import yaml

from attrail_explainers import make_task
from attrail_flows.cli import attrail as command_line
from attrail_flows.recipe.code import read_recipe
from attrail_flows.recipe.training import training
from attrail_flows.sections import RecipeSection, SliceSection, TaskSection

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "flows" / "README.md").read_text(encoding="utf-8")
GRADCAM = '[[explainer]]\nname = "gradcam"'


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_the_example_of_a_recipe_trains_a_model(tmp_path: Path) -> None:
    _, code = examples("python")
    (table,) = [each for each in examples("toml") if "[recipe]" in each]
    (tmp_path / "training.py").write_text(code)
    section = RecipeSection(**tomllib.loads(table)["recipe"], folder=tmp_path)
    with training(read_recipe(section), section.first_seed) as model:
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_example_of_boxes_is_a_task_and_a_slice() -> None:
    (table,) = [tomllib.loads(each) for each in examples("toml") if 'name = "detection"' in each]
    assert TaskSection(**table["task"]).to_task() == make_task("detection")
    (slice_,) = table["slice"]
    assert SliceSection(**slice_).coco == Path("instances_val.json")


def test_the_example_audits_a_version(
    workplace: Any, prefect_server: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace.folder)
    workplace.config(candidate="8", floor=[], explainers=GRADCAM, slice="limit = 16")
    example, _ = examples("python")
    names: dict[str, Any] = {}
    exec(compile(example, "flows/README.md", "exec"), names)
    assert names["document"]["candidate"]["label"] == "digits/7"
    assert capsys.readouterr().out.startswith(names["document"]["verdict"])


def test_its_flows_are_those_that_can_be_deployed() -> None:
    told = set(re.findall(r"^\| `attrail_flows\.([\w.]+)` \|", PAGE, flags=re.MULTILINE))
    file = yaml.safe_load((ROOT / "flows" / "attrail_flows" / "prefect.yaml").read_text(encoding="utf-8"))
    assert {f"attrail_flows.{each}" for each in told} == {each["entrypoint"] for each in file["deployments"]}
    for each in told:
        module, name = each.split(".")
        assert callable(getattr(importlib.import_module(f"attrail_flows.{module}"), name))
    names = {re.sub(r".*/", "", each) for each in re.findall(r"^\| `(attrail-[\w/-]+)` \|", PAGE, flags=re.MULTILINE)}
    assert names == {each["name"] for each in file["deployments"]}


def test_its_commands_and_options_are_those_there_are() -> None:
    context = click.Context(command_line)
    told = re.findall(r"^\$ attrail ([\w-]+)(.*?)(?: +#.*)?$", PAGE, flags=re.MULTILINE)
    for name, words in told:
        command = command_line.get_command(context, name)
        assert command is not None, name
        known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
        assert set(re.findall(r"--[\w-]+", words)) <= known, name
    elsewhere = set(re.findall(r"`(\w+)`", PAGE.partition("`attrail check` is on")[2].partition("\n\n")[0]))
    assert {name for name, _ in told} | elsewhere | {"check", "serve"} == set(command_line.commands)
