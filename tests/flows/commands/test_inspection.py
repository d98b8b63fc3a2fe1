"""``attrail inspect`` on registered models, end to end."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

Run = Callable[..., tuple[int, str, str]]


def inspect(attrail: Run, workplace, *more: object, model: str = "models:/digits/8", out: Path | None = None):
    folder = out or workplace.folder / "out"
    config = workplace.config(slice="limit = 16")
    return (*attrail("inspect", model, "--config", config, "--out", folder, *more), folder)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_versions_become_a_page_numbers_and_pictures(attrail: Run, workplace) -> None:
    shown = ("structure", "activations", "examples", "representation_difference", "similarity")
    pair = ("--against", "models:/digits/1", "--slice", "validation", "--show", ",".join(shown))
    status, printed, err, folder = inspect(attrail, workplace, *pair)
    assert status == 0, err
    assert f"written: {folder / 'inspect.html'}" in printed
    for name in shown:
        document = json.loads((folder / f"{name}.json").read_text())
        assert document["format"] == "attrail.exhibit/1"
        assert document["versions"] == {"reference": "digits/1", "candidate": "digits/8"}
        assert document["rows"] or document["notes"], name
        for panel in document["panels"]:
            assert panel["file"] is None or np.asarray(Image.open(folder / panel["file"])).std() > 0
    changes = {
        row["layer"]: row["relative_change"] for row in json.loads((folder / "structure.json").read_text())["rows"]
    }
    assert max(each for each in changes.values() if each is not None) > 0.5  # another seed
    arrays = load_file(folder / "activations.safetensors")
    assert {name.partition("/")[0] for name in arrays} == {"reference", "candidate"}
    text = (folder / "inspect.html").read_text()
    assert "digits/8 beside digits/1" in text
    assert len(text) < 5 * 2**20


def test_one_version_gives_the_same_bytes_again_and_says_what_needs_two(attrail: Run, workplace) -> None:
    chosen = ("--show", "structure, gradients,representation_difference")
    found = []
    for name in ("first", "second"):
        status, printed, err, folder = inspect(attrail, workplace, *chosen, out=workplace.folder / name)
        assert status == 0, err
        assert "representation_difference: not shown, this compares two versions" in printed
        found.append(files_of(folder))
    assert found[0] == found[1]
    assert {"structure.json", "gradients.json", "gradients.safetensors", "inspect.html"} <= set(found[0])
    assert "activations.json" not in found[0]


@pytest.mark.parametrize(
    ("wrong", "known"),
    [
        (("--show", "structure,astrology"), "activations"),
        (("--slice", "holiday"), "validation"),
        (("--against", "models:/digits/99"), "digits"),
    ],
)
def test_unknown_names_are_usage_errors_that_list_the_known(attrail: Run, workplace, wrong, known) -> None:
    status, _, err, folder = inspect(attrail, workplace, *wrong)
    assert status == 2
    assert wrong[1].rpartition(",")[2].rpartition("/")[2] in err
    assert known in err
    assert not list(folder.glob("*.json"))
