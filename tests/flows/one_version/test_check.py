"""``attrail check`` on a registered model, end to end."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attrail_explainers.assessment.check import check_names

Run = Callable[..., tuple[int, str, str]]


def check(attrail: Run, workplace, *more: object, model: str = "models:/digits/1", config: Path | None = None, **facts):
    chosen = {"explainer": "gradcam", "slice": "validation", "out": workplace.folder / "out"} | facts
    options = [part for name, value in chosen.items() for part in (f"--{name}", value)]
    return attrail("check", model, "--config", config or workplace.config(slice="limit = 6"), *options, *more)


def strict(path: Path):
    def refuse(constant: str):
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_check_writes_numbers_and_curves_and_says_what_good_looks_like(attrail: Run, workplace) -> None:
    status, printed, err = check(attrail, workplace)
    assert status == 0, err
    document = strict(workplace.folder / "out" / "checks.json")
    assert (document["model"], document["explainer"], document["slice"]) == ("digits/1", "gradcam", "validation")
    assert set(document["checks"]) == set(check_names())
    assert all(len(each["values"]) == 6 for each in document["checks"].values())
    assert document["checks"]["seed_noise"]["mean"] == 0
    for name, each in document["checks"].items():
        assert name in printed
        assert each["good"][:20] in printed
        assert f"{each['mean']:.3f}" in printed
    picture = np.asarray(Image.open(workplace.folder / "out" / "curves.png"))
    assert picture.shape[1] > picture.shape[0] > 300
    assert picture.std() > 5


def test_the_same_check_again_writes_the_same_bytes(attrail: Run, workplace) -> None:
    names = ("--check", "deletion", "--check", "random_weights")
    files = []
    for folder in ("first", "second"):
        status, _, err = check(attrail, workplace, *names, out=workplace.folder / folder)
        assert status == 0, err
        files.append([(workplace.folder / folder / name).read_bytes() for name in ("checks.json", "curves.png")])
    assert files[0] == files[1]
    assert set(json.loads(files[0][0])["checks"]) == {"deletion", "random_weights"}


def test_configured_parameters_seed_and_targets_are_used(attrail: Run, workplace) -> None:
    config = workplace.config(
        slice="limit = 4",
        explainers='[[explainer]]\nname = "lime"\nevaluations = 24\nsegments = 9',
        policy='seed = 5\ntargets = "reference"',
    )
    status, printed, err = check(attrail, workplace, "--check", "infidelity", config=config, explainer="lime")
    assert status == 0, err
    document = strict(workplace.folder / "out" / "checks.json")
    assert document["parameters"]["evaluations"] == 24
    assert document["parameters"]["seed"] == 5
    assert not (workplace.folder / "out" / "curves.png").exists()
    assert "curves.png" not in printed


@pytest.mark.parametrize(
    ("wrong", "known"),
    [
        ({"slice": "holiday"}, "validation"),
        ({"explainer": "telepathy"}, "gradcam"),
        ({"check": "astrology"}, "deletion"),
        ({"model": "models:/digits/99"}, "digits"),
    ],
)
def test_unknown_names_are_usage_errors_that_list_the_known(attrail: Run, workplace, wrong, known) -> None:
    status, _, err = check(attrail, workplace, **wrong)
    assert status == 2
    assert next(iter(wrong.values())).rpartition("/")[2] in err
    assert known in err


def test_list_names_every_check(attrail: Run) -> None:
    status, printed, _ = attrail("list", "checks")
    assert status == 0
    assert all(name in printed for name in check_names())
