"""``attrail retrain`` as a user types it: a small CNN trained with several seeds by a process that knows no key."""

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from unittest import mock

import mlflow
import pytest
import torch

from attrail_explainers.errors import AttrailError, ConfigError, TrainingError
from attrail_flows.configuration import AuditConfig, read_config
from attrail_flows.engine.trainer import train
from attrail_flows.engine.worker import Answer, Description, answer
from attrail_flows.inputs.preflight import preflight_audit, preflight_floor
from attrail_flows.recipe.code import read_recipe
from attrail_flows.recipe.training import training
from attrail_flows.retrain import load_case, trained_by
from attrail_flows.sections import RunSection
from attrail_mlflow import Registry, log_classifier
from attrail_mlflow.signing.keys import VARIABLES, new_key
from digits import Scans, write_slice

Run = Callable[..., tuple[int, str, str]]

RECIPE = """
import os
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import nn

from network import small


def fit(seed, folder):
    (Path(__file__).parent / "witness").open("a").write(f"{os.getpid()} {sorted(os.environ)}\\n")
    if seed == 2:
        raise ValueError("no data today")
    if seed == 3:
        os._exit(1)  # as where there is no memory left
    digits = load_digits()
    images = torch.tensor(digits.images[:400] / 8 - 1, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1)
    images, labels = nn.functional.interpolate(images, 32), torch.tensor(digits.target[:400])
    net = small()
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for _ in range(6):
        for rows in torch.randperm(400).split(50):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
    return net
"""
NETWORK = """
from torch import nn


def small(width=16, classes=10):
    return nn.Sequential(
        nn.Conv2d(3, width, 5, 2), nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, 16, 3, 2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes),
    )
"""
CONFIG = """
[registry]
tracking_uri = "sqlite:///mlflow.db"
model = "digits"
reference = "1"
{registry}

[recipe]
train = "training:fit"
{recipe}

[[slice]]
name = "validation"
source = "slices/validation.csv"

[[explainer]]
name = "saliency"

[policy]
resamples = 200
"""


@dataclass(frozen=True)
class Place:
    """A folder with a registry and a recipe; ``status``, ``out`` and ``err`` are of its first ``attrail retrain``."""

    folder: Path
    status: int = 0
    out: str = ""
    err: str = ""

    def config(self, registry: str = "", recipe: str = "") -> Path:
        path = self.folder / "attrail.toml"
        path.write_text(CONFIG.format(registry=registry, recipe=recipe))
        return path

    def read(self, registry: str = "", recipe: str = "") -> AuditConfig:
        return read_config(self.config(registry, recipe))

    @property
    def registry(self) -> Registry:
        return Registry(f"sqlite:///{self.folder / 'mlflow.db'}")

    def versions(self) -> dict[str, str]:
        """The retrains' version numbers by their seeds."""
        found = self.registry.client.search_model_versions("name = 'digits-retrains'")
        return {each.tags.get("attrail.seed", "none"): str(each.version) for each in found}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, scans: Scans, attrail: Run) -> Place:
    folder = tmp_path_factory.mktemp("retrain")
    (folder / "training.py").write_text(RECIPE)
    (folder / "network.py").write_text(NETWORK)
    write_slice(scans[300:332], folder / "slices")
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.create_experiment("attrail", artifact_location=str(folder / "artifacts"))
    mlflow.set_experiment("attrail")
    found = Place(folder)
    recipe = read_recipe(found.read().recipe)
    half = {"size": (32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    with training(recipe, 0) as net:
        log_classifier(net, "digits", torch.zeros(2, 3, 32, 32), half, [str(digit) for digit in range(10)])
    (folder / "witness").unlink()
    new_key(folder / "keys" / "audit")
    with mock.patch.dict(os.environ, {"ATTRAIL_SIGNING_KEY": str(folder / "keys" / "audit")}):
        said = attrail("retrain", "--config", found.config(), "--times", "6", "--runner", "processes", "--workers", "1")
    return Place(folder, *said)


def test_one_seed_that_fails_is_named_and_the_others_are_trained(place: Place) -> None:
    assert place.status == 2
    assert re.findall(r"^(\w+) +seed (\d)", place.out, flags=re.MULTILINE) == [
        ("trained", "1"),
        ("failed", "2"),
        ("failed", "3"),
        *[("trained", seed) for seed in "456"],
    ]
    line = RECIPE.splitlines().index('        raise ValueError("no data today")') + 1
    told = f"training:fit failed with seed 2: ValueError: no data today (training.py, line {line})"
    assert place.err.endswith(f"attrail: 2 of 6 seeds failed: {told}\n")
    assert "seed 3: the process that trained with seed 3 ended before it answered: see whether this" in place.out
    assert "seed 4: digits-retrains/2" in place.out
    (failed,) = [run for run in runs(place) if run.info.status == "FAILED"]
    text = mlflow.artifacts.load_text(f"runs:/{failed.info.run_id}/traceback.txt")
    assert 'raise ValueError("no data today")' in text


def test_the_code_runs_in_a_process_of_its_own_that_is_not_told_of_the_key(place: Place) -> None:
    lines = (place.folder / "witness").read_text().splitlines()[:6]
    assert len(lines) == 6
    assert str(os.getpid()) not in {line.split()[0] for line in lines}
    assert not any(name in line for line in lines for name in VARIABLES)


def test_a_retrain_says_what_it_is_and_is_logged_as_the_reference_was(place: Place) -> None:
    registry, found = place.registry, place.versions()
    assert sorted(found) == ["1", "4", "5", "6"]
    reference, recipe = registry.resolve("digits", "1"), read_recipe(place.read().recipe)
    made = registry.client.get_model_version("digits-retrains", found["4"])
    tags = made.tags
    assert (tags["attrail.retrain"], tags["attrail.recipe"]) == (reference.source, recipe.digest)
    assert tags["attrail.reference_weights"] == registry.load(reference).weights_digest
    version = registry.resolve("digits-retrains", found["4"])
    assert (version.class_names, version.facts["preprocessing"]) == (
        reference.class_names,
        reference.facts["preprocessing"],
    )
    assert version.facts["retrain"] == {"of": "models:/digits/1", "seed": 4, "recipe": recipe.digest}
    assert "no candidates" in registry.client.get_registered_model("digits-retrains").description
    run = registry.client.get_run(made.run_id)
    assert {"seed": "4", "train": "training:fit", "recipe": recipe.digest}.items() <= run.data.params.items()
    kept = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/recipe.json")
    assert (sorted(kept["files"]), kept["commit"]) == (["network.py", "training.py"], None)
    assert kept["packages"]["torch"] == version_of("torch")
    assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/recipe/training.py") == RECIPE


def test_the_same_seed_gives_the_same_weights_in_any_process(place: Place) -> None:
    loaded = place.registry.load(place.registry.resolve("digits-retrains", place.versions()["4"]))
    with training(read_recipe(place.read().recipe), 4) as net:
        assert all(torch.equal(net.state_dict()[name], each) for name, each in loaded.module.state_dict().items())


def test_what_is_there_is_not_trained_again(place: Place, attrail: Run) -> None:
    before = (place.folder / "witness").read_bytes()
    status, out, _ = attrail("retrain", "--config", place.config(recipe="first_seed = 4"), "--times", "3")
    assert status == 0
    assert [line.split()[:2] for line in out.splitlines()[:3]] == [["there", "already"]] * 3
    assert out.endswith(
        "digits/1 has 3 retrains by training:fit\nnext: a floor needs 4 of them, attrail retrain --times 4\n"
    )
    assert (place.folder / "witness").read_bytes() == before


@pytest.mark.parametrize("registry", ["", 'floor = "retrains"', 'change = "refresh"'])
def test_they_are_the_floor_of_their_reference(place: Place, registry: str) -> None:
    _, versions = preflight_floor(place.read(registry))
    numbers = sorted(place.versions().values())
    assert sorted(each.label for each in versions.floor) == [f"digits-retrains/{number}" for number in numbers]


def test_they_are_no_floor_where_another_one_or_none_is_asked_for(place: Place) -> None:
    listed = [f"models:/digits-retrains/{number}" for number in "12"]
    assert len(preflight_floor(place.read(f"floor = {json.dumps(listed)}"))[1].floor) == 2
    assert preflight_floor(place.read('change = "same-function"'))[1].floor == ()
    assert place.read('floor = "retrains"').between("letters", "1", "2").registry.floor == ()
    assert place.read().between("letters", "1", "2").recipe is None


def test_fewer_than_a_floor_needs_and_how_they_are_made(place: Place, tmp_path: Path) -> None:
    audited = place.read('candidate = "models:/digits-retrains/1"\nfloor = "retrains"')
    with pytest.raises(ConfigError, match="a floor needs 4 retrains, digits/1 has 3 by training:fit: attrail retrain"):
        preflight_audit(audited)
    for name in ("training.py", "network.py"):
        (tmp_path / name).write_text((place.folder / name).read_text() + "\n# changed\n")
    changed = f'folder = "{tmp_path}"'
    with pytest.raises(
        ConfigError, match="has 0 by training:fit as its code is now, and 4 by other code: attrail retr"
    ):
        preflight_floor(place.read('floor = "retrains"', changed))
    assert preflight_floor(place.read(recipe=changed))[1].floor == ()


def test_a_calibration_uses_them(place: Place, attrail: Run) -> None:
    status, out, err = attrail("calibrate", "--config", place.config())
    assert status == 0, err
    assert out.startswith("noise floor: 4 retrains\n")


@dataclass(frozen=True)
class Here:
    """An engine that trains in this process, at once."""

    @property
    def section(self) -> RunSection:
        return RunSection(runner="processes", workers=1)

    def ask(self, question: Description) -> Answer:
        return answer(question)

    def submit(self, task_: Any, work: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        try:
            future.set_result(train(work))
        except AttrailError as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            ("small()\n", "small(classes=11)\n"),
            "gives outputs of shape (4, 11) for 4 images, digits/1 tells 10 classes",
        ),
        (("net = small()", "return nn.Flatten()"), "gives outputs of shape (4, 3072) for 4 images"),
        (
            ("net = small()", "return nn.Linear(2, 2)"),
            "does not take images of shape (C,H,W) = (3, 32, 32), as digits/1 does: RuntimeError",
        ),
        (("return net", "return net.state_dict()"), "returned OrderedDict, a torch.nn.Module was expected"),
        (("small()\n", "small(width=8)\n"), "trains another architecture than digits/1: 0.bias has the shape (8,), in"),
        (
            ("net = small()", "torch.manual_seed(1); net = small()"),
            "seeds 7 and 8 give the same weights: training:fit doe",
        ),
    ],
)
def test_a_recipe_that_fits_no_seed_stops_with_the_first(
    place: Place, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    (tmp_path / "training.py").write_text(RECIPE.replace(*change).replace("range(6)", "range(1)"))
    (tmp_path / "network.py").write_text(NETWORK)
    case = load_case.fn(place.read(recipe=f'folder = "{tmp_path}"'))
    before = len(place.registry.client.search_model_versions("name = 'digits-retrains'"))
    with pytest.raises(ConfigError, match=re.escape(said)):
        list(trained_by(Here(), case, [7, 8, 9], {}))
    tried = (tmp_path / "witness").read_text().count("\n")
    assert tried == (2 if "seeds" in said else 1)
    assert len(place.registry.client.search_model_versions("name = 'digits-retrains'")) == before + tried - 1


def test_the_seed_that_made_the_reference_makes_no_retrain(place: Place) -> None:
    case = load_case.fn(place.read())
    (row,) = trained_by(Here(), case, [0], {})
    assert row["error"].startswith("seed 0 gives the weights of digits/1 itself, so it is no retrain")
    assert "0" not in place.versions()


def test_a_training_that_diverged_is_no_retrain(place: Place, tmp_path: Path) -> None:
    (tmp_path / "training.py").write_text(
        RECIPE.replace("return net", "net[0].weight.data.fill_(torch.nan)\n    return net")
    )
    (tmp_path / "network.py").write_text(NETWORK)
    case = load_case.fn(place.read(recipe=f'folder = "{tmp_path}"'))
    with pytest.raises(TrainingError, match="with seed 1 gives NaN or infinite outputs: the training diverged"):
        train(case.training(1, 10))
    with pytest.raises(ConfigError, match=r"training\.py in .* is not what it was"):
        train(
            replace(case, recipe=replace(case.recipe, files=case.recipe.files | {"training.py": "other"})).training(
                1, 10
            )
        )


@pytest.mark.usefixtures("no_experiment")
def test_code_that_leaves_its_marks_on_the_process(place: Place, tmp_path: Path) -> None:
    marks = f"""os.chdir(folder)
    import mlflow
    mlflow.set_tracking_uri("sqlite:///{tmp_path}/other.db")
    mlflow.create_experiment("so that the next one has another number than the retrain's")
    mlflow.set_experiment("mine")
    mlflow.start_run()
    return net"""
    (tmp_path / "training.py").write_text(RECIPE.replace("return net", marks))
    (tmp_path / "network.py").write_text(NETWORK)
    here, case = Path.cwd(), load_case.fn(place.read(recipe=f'folder = "{tmp_path}"'))
    try:
        (row,) = trained_by(Here(), case, [1], {})
    finally:
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/other.db")
        mlflow.end_run()
        mlflow.set_tracking_uri(case.registry.tracking_uri)
    assert (row["outcome"], row["error"], Path.cwd()) == ("trained", None, here)
    name, number = row["retrain"].split("/")
    assert case.registry.client.get_model_version(name, number).tags["attrail.seed"] == "1"


def runs(place: Place) -> list[mlflow.entities.Run]:
    client = place.registry.client
    found = client.search_runs([client.get_experiment_by_name("attrail").experiment_id])
    return [run for run in found if "train" in run.data.params]


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("[recipe]", "configuration attrail.toml: key 'recipe.train' is missing"),
        ('[recipe]\ntrain = "training"', "'recipe.train': "),
        ('[recipe]\ntrain = "training:fit"\nseeds = 3', "unknown key 'recipe.seeds'"),
        ('[recipe]\ntrain = "training:fit"\nfirst_seed = -1', "'recipe.first_seed': "),
        ('[recipe]\ntrain = "training:fit"\nfirst_seed = true', "'recipe.first_seed': "),
        ('[[recipe]]\ntrain = "training:fit"\n[[recipe]]\ntrain = "training:other"', "there is one table 'recipe'"),
    ],
)
def test_what_is_no_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str, said: str) -> None:
    monkeypatch.chdir(tmp_path)
    text = CONFIG.format(registry="", recipe="").replace('[recipe]\ntrain = "training:fit"', recipe)
    Path("attrail.toml").write_text(text)
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_config(Path("attrail.toml"))


def test_without_a_recipe_nothing_is_trained(place: Place, attrail: Run) -> None:
    path = place.config()
    path.write_text(path.read_text().replace('[recipe]\ntrain = "training:fit"', ""))
    status, _, err = attrail("retrain", "--config", path)
    assert status == 2
    assert 'there is no [recipe] in the configuration: add one, with train = "module:function"' in err
