"""Addresses in records carry no password, and every name that MLflow takes is found."""

import logging
from collections.abc import Iterator

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import nn

from attrail_explainers.errors import ConfigError, RegistryError
from attrail_explainers.slice import Preprocessing
from attrail_mlflow.log_classifier import log_classifier
from attrail_mlflow.registry.models import models
from attrail_mlflow.registry.preprocessing import stated_preprocessing
from attrail_mlflow.registry.registry import URI, Registry, without_password
from attrail_mlflow.registry.tags import COMPLETE_TAG
from attrail_mlflow.runs.audit_run import open_run
from attrail_mlflow.runs.posted_policy import post_policy


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@mlflow.example:5000/x", "https://mlflow.example:5000/x"),
        ("postgresql://me:se@cret@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.parametrize("text", ["models:/a/1", "models:/a b@champion", "models:/a.b/12"])
def test_model_uris(text: str) -> None:
    found = URI.fullmatch(text)
    assert found is not None
    assert bool(found["version"]) != bool(found["alias"])


@pytest.mark.parametrize("text", ["models:/a", "models:/a/latest/1", "models:/a@", "runs:/1/model", "models:/m-1/"])
def test_other_text_is_no_model_uri(text: str) -> None:
    assert URI.fullmatch(text) is None


NAMES = ["o'neill", 'say "x"', "a#b", "a?b=1", "blank ", " blank", "50%25", "back\\slash", "a@b", "näme", "m-1", "7"]


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry with one model under every name."""
    folder = tmp_path_factory.mktemp("names")
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_experiment(experiment_id=mlflow.create_experiment("models", (folder / "files").as_uri()))
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()
    example = np.zeros((2, 3, 8, 8), np.float32)
    info = mlflow.pytorch.log_model(network, name="model", input_example=example, pip_requirements=["torch"])
    for name in NAMES:
        mlflow.register_model(f"models:/{info.model_id}", name)
        MlflowClient().create_model_version(name, f"models:/{info.model_id}")
        for alias, version in (("champion", "1"), ("2", "1"), ("30", "1")):
            MlflowClient().set_registered_model_alias(name, alias, version)
    yield Registry(f"sqlite:///{folder}/mlflow.db")
    mlflow.set_tracking_uri(before)


@pytest.mark.parametrize("name", NAMES)
def test_every_name_that_mlflow_takes(registry: Registry, name: str) -> None:
    spellings = {"1": "1", "002": "2", "champion": "1", f"models:/{name}/2": "2", f"models:/{name}@2": "1"}
    for spelling, version in spellings.items():
        found = registry.resolve(name, spelling)
        assert (found.name, found.version) == (name, version)
        registry.require_loadable(found)
    assert registry.load(found).label == f"{name}/1"
    assert {each.name: each.newest for each in models(registry)}[name] == "2"


@pytest.mark.parametrize("name", ["o'neill", "back\\slash", "50%25"])
def test_the_last_audit_of_a_model_is_found_by_its_name(registry: Registry, name: str) -> None:
    """Not that of a model whose name differs in the one letter that MLflow's filters cannot say."""
    for model in (name, name.replace("'", "-").replace("\\", "-")):
        run = open_run(registry, "attrail", "an audit")
        post_policy(run, model, {"alpha": 0.05}, f"sha256:{model}")
        registry.client.set_tag(run.run_id, COMPLETE_TAG, "true")
    posted = post_policy(open_run(registry, "attrail", "another"), name, {"alpha": 0.1}, "sha256:other")
    assert posted.before == f"sha256:{name}"


def test_numbers_that_are_aliases_too(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert registry.resolve("m-1", "2").version == "2"
        assert Registry(registry.tracking_uri).resolve("m-1", "2").version == "2"  # as a flow does after its command
    assert caplog.text.count("write models:/m-1@2") == 1
    with pytest.raises(RegistryError, match=r"no version '30'.*write models:/m-1@30 for the alias"):
        registry.resolve("m-1", "30")


def test_a_classifier_is_logged_to_the_active_run_else_to_one_of_its_own(registry: Registry) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    arguments = (network, "logged", np.zeros((2, 3, 8, 8), np.float32), Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3))
    with mlflow.start_run() as run:
        mlflow.log_param("lr", 0.01)
        own = registry.resolve("logged", log_classifier(*arguments))
        assert mlflow.active_run() is not None
    assert own.run_id == run.info.run_id
    other = registry.resolve("logged", log_classifier(*arguments))
    assert other.run_id not in (None, own.run_id)
    assert registry.client.get_run(str(other.run_id)).info.status == "FINISHED"


@pytest.mark.parametrize(
    ("example", "said"),
    [
        ({"images": np.zeros((2, 3, 8, 8), np.float32)}, "got dict: give the images alone"),
        (np.zeros((1, 3, 8, 8), np.float32), r"two images or more, got float32 of shape \(1, 3, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"shape \(3, 8, 8\)"),
        (np.zeros((2, 3, 8, 8), np.int64), "got int64"),
    ],
)
def test_examples_that_no_classifier_can_be_logged_with(example: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        log_classifier(nn.Identity(), "m", example, Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3))


def test_a_tensor_is_an_example(registry: Registry) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    halves = Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3)
    version = log_classifier(network, "of-a-tensor", torch.zeros(2, 3, 8, 8, dtype=torch.float64), halves)
    assert registry.resolve("of-a-tensor", version).input_shape == (3, 8, 8)
    said = {"size": [8, 8], "mean": [0.5] * 3, "std": [0.5] * 3}
    version = log_classifier(network, "of-a-tensor", torch.zeros(2, 3, 8, 8), said)
    assert stated_preprocessing(registry.resolve("of-a-tensor", version)) == halves


@pytest.mark.parametrize(
    ("preprocessing", "said"),
    [
        ({"size": [8, 8], "means": 0.5}, "unknown key 'means', preprocessing takes size, mean, std"),
        ({"size": [8, 8]}, "preprocessing lacks the key 'mean'; give a Preprocessing, or a dict like it"),
        ([8, 8], "preprocessing is list, expected a table of size, mean and std"),
    ],
)
def test_preprocessing_that_no_classifier_can_be_logged_with(preprocessing: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        log_classifier(nn.Identity(), "m", np.zeros((2, 3, 8, 8), np.float32), preprocessing)
