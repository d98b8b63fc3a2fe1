"""A recipe's function is called where random numbers begin at its seed; what goes wrong in it is one sentence."""

import re
import sys
from pathlib import Path

import pytest
import torch

from attrail_explainers.errors import ConfigError, TrainingError
from attrail_flows.recipe.code import Recipe, read_recipe
from attrail_flows.recipe.training import training
from attrail_flows.sections import RecipeSection

DRAWING = """
import random
import numpy as np
import torch

def fit(seed, folder):
    assert folder.is_dir() and not any(folder.iterdir())
    (folder / "checkpoint").write_text("kept while it is needed")
    net = torch.nn.Linear(2, 2)
    with torch.no_grad():
        net.weight.add_(random.random() + np.random.random())
    net.folder, net.threads = folder, torch.get_num_threads()
    return net
"""


def recipe(folder: Path, text: str, train: str = "training:fit") -> Recipe:
    (folder / "training.py").write_text(text)
    return read_recipe(RecipeSection(train=train, folder=folder))


def test_one_seed_gives_the_same_weights_again_and_another_one_others(tmp_path: Path) -> None:
    found, threads = [], torch.get_num_threads()
    for seed in (3, 3, 4):
        with training(recipe(tmp_path, DRAWING), seed) as net:
            assert (net.folder / "checkpoint").exists()
            assert (net.training, net.threads) == (False, 1)
            found.append(net.weight.detach().clone())
        assert not net.folder.exists()
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert torch.get_num_threads() == threads


def test_the_code_is_that_of_the_folder_now_whatever_was_imported_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = type(sys)("helper")
    monkeypatch.setitem(sys.modules, "helper", other)
    monkeypatch.delitem(sys.modules, "training", raising=False)
    path = list(sys.path)
    for size in (2, 3):
        (tmp_path / "helper.py").write_text(f"SIZE = {size}\n")
        text = "import torch, helper\n\ndef fit(seed, folder):\n    return torch.nn.Linear(helper.SIZE, 2)\n"
        with training(recipe(tmp_path, text), 0) as net:
            assert net.in_features == size
        assert sys.modules["helper"] is other
        assert "training" not in sys.modules
    assert sys.path == path


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        (
            "def fit(seed, folder):\n    raise ValueError('no\\ndata')\n",
            TrainingError,
            "seed 7: ValueError: no data (training.py, line 2)",
        ),
        (
            "def fit(seed, folder):\n    raise SystemExit(0)\n",
            TrainingError,
            "seed 7: SystemExit: 0 (training.py, line 2)",
        ),
        ("def fit(seed):\n    return 1\n", TrainingError, "seed 7: TypeError: fit() takes 1 positional argument"),
        ("def fit(seed, folder):\n    return {'a': 1}\n", ConfigError, "returned dict, a torch.nn.Module was expected"),
        ("def fit(seed, folder):\n    pass\n", ConfigError, "returned NoneType, a torch.nn.Module was expected"),
        ("import nowhere_to_be_found\n", ConfigError, "cannot be imported: ModuleNotFoundError: No module named"),
        ("def main(): pass\nfit = 3\n", ConfigError, "training has no function 'fit', it has main; correct"),
        (
            "import importlib\n\ndef fit(seed, folder):\n    importlib.import_module('hid' + 'den')\n",
            ConfigError,
            "imports hidden.py by a name that is made while it runs",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence(tmp_path: Path, text: str, error: type[Exception], said: str) -> None:
    (tmp_path / "hidden.py").write_text("")
    with pytest.raises(error, match=re.escape(said)) as raised, training(recipe(tmp_path, text), 7):
        raise AssertionError("nothing was trained")
    assert "\n" not in str(raised.value)
