"""A retrain's run in MLflow: code and seed are in it before the training begins, then the model."""

import contextlib
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.entities import Param
from mlflow.utils.git_utils import get_git_commit
from mlflow.utils.mlflow_tags import MLFLOW_GIT_COMMIT

from attrail_explainers.errors import RegistryError
from attrail_mlflow.log_classifier import log_in_run
from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.experiments import experiment_id
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.registry.retrains import require_retrains_model, retrains_model
from attrail_mlflow.registry.tags import RECIPE_TAG, RETRAIN_TAG
from attrail_mlflow.runs.ending import finishing

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FOLDER = "recipe"  # where the recipe's code is among the run's artifacts


@dataclass(frozen=True)
class RetrainRun:
    """An MLflow run that trains a retrain of ``reference``."""

    registry: Registry
    run_id: str
    reference: RegisteredVersion

    def log(self, module: Any, example: "NDArray[np.float32]", facts: Mapping[str, Any]) -> RegisteredVersion:
        """Log a trained module and register it among the retrains; see ``log_in_run``.

        It becomes a retrain when it is marked as one (``mark_retrain``). Raises RegistryError when MLflow refuses.
        """
        client, name = self.registry.client, retrains_model(self.reference.name)
        mlflow.set_tracking_uri(self.registry.tracking_uri)  # the code that trained may have set another
        with asking(f"run {self.run_id}: the retrain cannot be logged", self.registry.shown):
            require_retrains_model(self.registry, self.reference.name)
            # nor must it have stayed in the run's experiment, or have ended its own runs
            mlflow.set_experiment(experiment_id=client.get_run(self.run_id).info.experiment_id)
            with mlflow.start_run(run_id=self.run_id, nested=True):
                logged = log_in_run(module, example, facts)
            made = client.create_model_version(name, logged.model_uri, self.run_id, model_id=logged.model_id)
        return self.registry.resolve(name, str(made.version))


@contextlib.contextmanager
def retrain_run(
    registry: Registry, experiment: str, reference: RegisteredVersion, seed: int, recipe: Mapping[str, Any], code: Path
) -> Iterator[RetrainRun]:
    """A run for the time of a block: FINISHED at its end, FAILED with the traceback among its files when it raises.

    ``recipe`` is what is known of the code, ``recipe["files"]`` its files below the folder ``code``; both are kept.
    """
    client = registry.client
    params = {"seed": str(seed), "train": recipe["train"], "recipe": recipe["digest"], "reference": reference.uri}
    tags = {RETRAIN_TAG: reference.source, RECIPE_TAG: recipe["digest"]}
    commit = get_git_commit(str(code))
    with asking("no run for a retrain can be started in MLflow", registry.shown):
        experiment_ = experiment_id(client, experiment)
        name = f"retrain of {reference.label} with seed {seed}"
        run_id = client.create_run(experiment_, run_name=name, tags=tags | _git(commit)).info.run_id
        client.log_batch(run_id, params=[Param(key, value) for key, value in params.items()])
        client.log_dict(run_id, dict(recipe) | {"seed": seed, "commit": commit}, f"{FOLDER}.json")
        for path in recipe["files"]:
            client.log_artifact(run_id, str(code / path), str(Path(FOLDER, path).parent))
    with finishing(registry, run_id):
        try:
            yield RetrainRun(registry, run_id, reference)
        except Exception as error:
            told = "".join(traceback.format_exception(error))
            with contextlib.suppress(RegistryError), asking("the traceback cannot be kept"):
                client.log_text(run_id, told, "traceback.txt")
            raise


def _git(commit: str | None) -> dict[str, str]:
    return {MLFLOW_GIT_COMMIT: commit} if commit else {}
