"""Searches follow every page, and find what has a name and nothing that is spelt like it."""

from pathlib import Path

import mlflow
import pytest

from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.searching import newest_complete_run, registered_models, runs_with, versions_named
from attrail_mlflow.registry.tags import COMPLETE_TAG, SEQUENCE_TAG


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    uri = f"sqlite:///{tmp_path_factory.mktemp('searches') / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("models")  # MLflow makes the database
    return Registry(uri)


def test_versions_on_many_pages(registry: Registry, tmp_path: Path) -> None:
    for name in ("o'neill", "o-neill"):
        registry.client.create_registered_model(name)
        for _ in range(3):
            registry.client.create_model_version(name, tmp_path.as_uri())
    for page in (1, 2, 1000):
        found = [(each.name, each.version) for each in versions_named(registry.client, "o'neill", page)]
        assert [(name, int(version)) for name, version in found] == [("o'neill", number) for number in (3, 2, 1)]
    assert {each.name for each in registered_models(registry.client)} == {"o'neill", "o-neill"}
    assert [each.name for each in registered_models(registry.client, "name LIKE 'o-%'")] == ["o-neill"]


def test_runs_on_many_pages(registry: Registry) -> None:
    experiment = registry.client.create_experiment("attrail")
    runs = []
    for number, complete in enumerate(("true", "true", "false")):
        tags = {SEQUENCE_TAG: "it's nightly", COMPLETE_TAG: complete}
        made = registry.client.create_run(experiment, start_time=1000 + number, tags=tags)
        registry.client.create_run(experiment, start_time=1500 + number, tags=tags | {SEQUENCE_TAG: "it-s nightly"})
        runs.append(made.info.run_id)
    for page in (1, 2, 200):
        for order, expected in (("ASC", runs), ("DESC", runs[::-1])):
            found = runs_with(registry.client, experiment, {SEQUENCE_TAG: "it's nightly"}, order, page)
            assert [each.info.run_id for each in found] == expected
    newest = newest_complete_run(registry.client, experiment, SEQUENCE_TAG, "it's nightly")
    assert newest is not None
    assert newest.info.run_id == runs[1]
    assert newest_complete_run(registry.client, experiment, SEQUENCE_TAG, "weekly") is None
