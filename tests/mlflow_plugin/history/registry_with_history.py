"""Versions of small models in a real store, with runs as somebody's trainings leave them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import torch
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT, MLFLOW_SOURCE_NAME
from torch import nn

from attrail_mlflow.registry.registry import Registry

RECIPE = {"lr": "0.01", "epochs": "12"}
TAGS = {MLFLOW_GIT_COMMIT: "1a2b3c4d5e6f7a8b9c0d", MLFLOW_SOURCE_NAME: "train.py"}


@dataclass(frozen=True)
class History:
    """A store; ``trained`` makes a run and a version, of a model that is exported or of files that are there."""

    registry: Registry
    experiment: str

    @property
    def client(self) -> MlflowClient:
        return self.registry.client

    def run(
        self, seed: int | None, tags: Mapping[str, str] = TAGS, ended: str = "FINISHED", **parameters: object
    ) -> str:
        """A finished run of the recipe with a seed, and other parameters; None takes one away."""
        found = self.client.create_run(self.experiment, tags=dict(tags)).info.run_id
        for name, value in {**RECIPE, "seed": seed, **parameters}.items():
            if value is not None:
                self.client.log_param(found, name, value)
        self.client.set_terminated(found, ended)
        return found

    def exported(self, seed: int, run: str | None = None, width: int = 4, classes: int = 5, **more: object) -> str:
        """Log a small net in a run, by default one of the recipe with this seed: the logged model's address."""
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, width, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)
        ).eval()
        example = np.zeros((2, 3, 8, 8), np.float32)
        with mlflow.start_run(run_id=run or self.run(seed)):
            return mlflow.pytorch.log_model(
                net, name="model", input_example=example, pip_requirements=["torch"], **more
            ).model_uri

    def registered(self, source: str, run: str | None = "", name: str = "digits") -> str:
        """A new version with these files, of the run that logged them, of another one, or of none: its number."""
        if not self.client.search_registered_models(f"name = '{name}'"):
            self.client.create_registered_model(name)
        logged = self.client.get_logged_model(source.removeprefix("models:/"))
        if run is None:  # of a logged model MLflow knows it by itself
            return str(self.client.create_model_version(name, logged.artifact_location).version)
        if run:
            return str(self.client.create_model_version(name, source, run).version)
        facts = {"run_id": logged.source_run_id, "model_id": logged.model_id}
        return str(self.client.create_model_version(name, source, **facts).version)


def empty_history(folder: Path) -> History:
    """A store in a folder."""
    return history_at(f"sqlite:///{folder}/mlflow.db", "training", "attrail", place=folder.as_uri())


def history_at(address: str, training: str, evidence: str, place: str | None = None) -> History:
    """A store with two experiments more, whose files lie in a place, or where the server keeps them."""
    mlflow.set_tracking_uri(address)
    experiment, _ = (mlflow.create_experiment(name, place and f"{place}/{name}") for name in (training, evidence))
    mlflow.set_experiment(experiment_id=experiment)
    return History(Registry(address), experiment)
