"""A recipe's code: which files it is, and that whatever changes one of them changes the digest."""

import re
from pathlib import Path

import pytest

from attrail_explainers.errors import ConfigError
from attrail_flows.recipe.code import Recipe, read_recipe, same_code
from attrail_flows.sections import RecipeSection

FILES = {
    "training.py": "import json, layers\nfrom data import load, nothing\n\ndef fit(seed, folder):\n    import late\n",
    "layers/__init__.py": "from .blocks import block\nfrom . import heads\n",
    "layers/blocks.py": "from .heads import top\n",
    "layers/heads.py": "",
    "data/load.py": "import helpers.deep\n",  # a folder without __init__.py is a package too
    "helpers/deep.py": "",
    "late.py": "import training\n",
    "unused.py": "raise RuntimeError('never run')\n",
}


def recipe(folder: Path, train: str = "training:fit", **files: str) -> Recipe:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_recipe(RecipeSection(train=train, folder=folder))


def test_it_is_all_that_the_module_imports_from_its_folder_and_nothing_else(tmp_path: Path) -> None:
    found = recipe(tmp_path, **FILES)
    assert list(found.files) == sorted(set(FILES) - {"unused.py"})
    assert {"training", "layers", "layers.blocks", "data", "data.load", "late"} <= found.modules


def test_its_digest_is_that_of_names_and_contents_wherever_they_lie(tmp_path: Path) -> None:
    first, second = recipe(tmp_path / "a", **FILES), recipe(tmp_path / "b", **FILES)
    assert first.digest == second.digest != recipe(tmp_path / "a", "training:other").digest
    for name in set(FILES) - {"unused.py"}:
        assert recipe(tmp_path / "b", **(FILES | {name: FILES[name] + "# changed\n"})).digest != first.digest, name
    assert recipe(tmp_path / "b", **(FILES | {"unused.py": ""})).digest == first.digest


def test_code_that_changed_meanwhile_is_named(tmp_path: Path) -> None:
    before = recipe(tmp_path, **FILES)
    assert same_code(before) == before
    (tmp_path / "late.py").write_text("import training  # again\n")
    with pytest.raises(ConfigError, match=r"'training:fit': late.py in .* is not what it was"):
        same_code(before)


@pytest.mark.parametrize(
    ("train", "files", "said"),
    [
        ("trainig:fit", FILES, "there is no module 'trainig' in"),
        ("json:fit", FILES, "there is no module 'json' in"),
        ("training:fit", {"training.py": "def fit(:\n"}, "training.py, line 1, is no Python"),
        ("training:fit", {"training.py": "from ..other import x\n"}, "training.py, line 1: ..other leads out of its"),
        ("training:fit", {"training.py": "\0"}, "training.py"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, train: str, files: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        recipe(tmp_path, train, **files)
