"""MLflow's own ``evaluate`` with attrail's evaluator: numbers on the run and on the logged model, files in the run."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import list_evaluators
from torch import nn

from attrail_explainers.slice import Preprocessing
from attrail_mlflow.log_classifier import log_classifier
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.signing.keys import new_key

CONFIG = {"explainers": [{"name": "gradcam"}], "checks": ["random_head"]}


@pytest.fixture
def table(workplace) -> pd.DataFrame:
    rows = pd.read_csv(workplace.folder / "slices" / "validation.csv").head(6)
    paths = [str(workplace.folder / "slices" / name) for name in rows["image"]]
    return pd.DataFrame({"image_path": paths, "label": rows["label"].astype(int)})


def evaluate(workplace, data: Any, config: dict[str, Any], model: str = "models:/digits/7") -> Any:
    mlflow.set_tracking_uri(workplace.tracking_uri)
    mlflow.set_experiment("training")
    more = {"targets": "label", "model_type": "attrail-image", "evaluators": "attrail"}
    with mlflow.start_run():
        return mlflow.models.evaluate(model, data, evaluator_config=config, **more)


def test_metrics_and_findings_are_kept(workplace, table: pd.DataFrame) -> None:
    found = evaluate(workplace, table, CONFIG)
    assert set(found.metrics) == {"accuracy", "gradcam/random_head"}
    client = mlflow.MlflowClient()
    run = client.get_run(found._run_id)
    assert {name: run.data.metrics[name] for name in found.metrics} == found.metrics
    version = client.get_model_version("digits", "7")
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert {each.key: each.value for each in logged.metrics if each.run_id == run.info.run_id} == found.metrics
    path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path="attrail/evaluation/gradcam.json")
    finding = json.loads(Path(path).read_text())["checks"]["random_head"]
    assert finding["mean"] == found.metrics["gradcam/random_head"]
    assert len(finding["values"]) == len(table)


def test_the_same_evaluation_gives_the_same_numbers(workplace, table: pd.DataFrame) -> None:
    assert evaluate(workplace, table, CONFIG).metrics == evaluate(workplace, table, CONFIG).metrics


def test_a_model_that_looks_at_the_whole_batch_is_refused(workplace, table: pd.DataFrame) -> None:
    class Centred(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return (images - images.mean(0)).flatten(1)[:, :10]

    mlflow.set_tracking_uri(workplace.tracking_uri)
    mlflow.set_experiment("training")
    example, preprocessing = np.zeros((2, 3, 64, 64), np.float32), Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3)
    number = log_classifier(Centred(), "centred", example, preprocessing)
    config = CONFIG | {"explainers": [{"name": "occlusion"}]}
    with pytest.raises(MlflowException, match="answers an image differently with other images beside it"):
        evaluate(workplace, table, config, f"models:/centred/{number}")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "names no explainers"),
        (CONFIG | {"explainer": "lime"}, "unknown entry in evaluator_config 'explainer': known are checks"),
        (CONFIG | {"explainers": [{"name": "gradcan"}]}, "unknown explainer 'gradcan'"),
        (CONFIG | {"explainers": [{}]}, "has no name"),
        (CONFIG | {"checks": ["luck"]}, "unknown check 'luck'"),
        (CONFIG | {"preprocessing": {"width": 3}}, "preprocessing takes size, mean, std"),
        (CONFIG | {"preprocessing": {"size": [64, 64]}}, "preprocessing in evaluator_config lacks the key 'mean'"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(config: dict[str, Any], said: str, workplace, table) -> None:
    with pytest.raises(MlflowException, match=said):
        evaluate(workplace, table, config)


def test_a_model_given_by_its_id_is_loaded_by_attrail_alone(
    workplace, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(workplace.tracking_uri)
    source = mlflow.MlflowClient().get_model_version("digits", "7").source
    more = {"data": table, "targets": "label", "model_type": "attrail-image", "evaluators": "attrail"}
    mlflow.set_experiment("training")
    with monkeypatch.context() as refused, mlflow.start_run():
        refused.setattr(mlflow.pyfunc, "load_model", None)
        refused.setattr(mlflow.pytorch, "load_model", None)
        found = mlflow.models.evaluate(model_id=source.removeprefix("models:/"), evaluator_config=CONFIG, **more)
    assert set(found.metrics) == {"accuracy", "gradcam/random_head"}
    (tmp_path / "attrail_test_code_beside_a_model.py").write_text("")
    info = mlflow.pytorch.log_model(
        torch.nn.Flatten(),
        name="model",
        input_example=np.zeros((2, 3, 8, 8), np.float32),
        code_paths=[str(tmp_path / "attrail_test_code_beside_a_model.py")],
        pip_requirements=["torch"],
    )
    path = list(sys.path)
    with pytest.raises(MlflowException, match="brings code of its own"), mlflow.start_run():
        mlflow.models.evaluate(model_id=info.model_id, evaluator_config=CONFIG, **more)
    assert sys.path == path
    assert "attrail_test_code_beside_a_model" not in sys.modules


@pytest.mark.slow
def test_where_the_process_signs_another_one_loads_the_model(
    workplace, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = evaluate(workplace, table, CONFIG).metrics
    source = mlflow.MlflowClient().get_model_version("digits", "7").source
    more = {"data": table, "targets": "label", "model_type": "attrail-image", "evaluators": "attrail"}
    new_key(tmp_path / "key")
    monkeypatch.setenv("ATTRAIL_SIGNING_KEY", str(tmp_path / "key"))
    with monkeypatch.context() as here, mlflow.start_run():
        here.setattr(Registry, "load", None)
        found = mlflow.models.evaluate(model_id=source.removeprefix("models:/"), evaluator_config=CONFIG, **more)
    assert found.metrics == expected
    assert os.environ["ATTRAIL_SIGNING_KEY"] == str(tmp_path / "key")
    config = CONFIG | {"checks": ["luck"]}
    with pytest.raises(MlflowException, match="unknown check 'luck'"), mlflow.start_run():
        mlflow.models.evaluate(model_id=source.removeprefix("models:/"), evaluator_config=config, **more)
    with pytest.raises(MlflowException, match="give model_id in the place of model"):
        evaluate(workplace, table, CONFIG)


def test_a_table_without_images_is_refused(workplace, table: pd.DataFrame) -> None:
    with pytest.raises(MlflowException, match="column image_path"):
        evaluate(workplace, table.rename(columns={"image_path": "image"}), CONFIG)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"label": 10}, "row 3 of the data has the label 10, the model knows 0..9"),
        ({"label": 1.5}, r"row 3 of the data has the label '1\.5', which is no class"),
        ({"image_path": "nowhere.png"}, r"row 3 of the data names the image 'nowhere\.png', which does not exist"),
        ({"image_path": {"bytes": b"x"}}, "row 3 of the data has dict as its image, expected text"),
    ],
)
def test_rows_of_the_data_are_held_against_what_a_slice_needs(row: dict[str, Any], said: str, workplace, table) -> None:
    rows = table.astype("object")
    for column, value in row.items():
        rows.at[2, column] = value
    with pytest.raises(MlflowException, match=said):
        evaluate(workplace, rows, CONFIG)


def test_labels_may_be_written_as_floats(workplace, table: pd.DataFrame) -> None:
    found = evaluate(workplace, table.astype({"label": "float64"}), CONFIG)
    assert found.metrics == evaluate(workplace, table, CONFIG).metrics


def test_it_is_registered_and_takes_no_other_models() -> None:
    from attrail_mlflow.plugin.evaluator import AttrailEvaluator

    assert "attrail" in list_evaluators()
    for kind in ("classifier", "regressor", None):
        assert not AttrailEvaluator.can_evaluate(model_type=kind, evaluator_config={})
