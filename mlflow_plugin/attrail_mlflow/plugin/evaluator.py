"""Entry point ``mlflow.model_evaluator``: hold an image model's explanations against attrail's checks.

::

    mlflow.models.evaluate(
        data=table,  # a data frame with a column image_path
        model_id="m-...",  # of the logged model
        targets="label",
        model_type="attrail-image",
        evaluators="attrail",
        evaluator_config={"explainers": [{"name": "gradcam"}], "checks": ["random_head"]},
    )

A ``model`` in the place of ``model_id`` works too, but MLflow then loads it itself, with the code that comes with it,
before this evaluator is asked. So where the process signs (``ATTRAIL_SIGNING_KEY``), it is refused, and another process
loads the model with the id. The configuration is described in ``evaluation``. Metrics are written on the run and on the
logged model; every finding is in a file of the run, below ``attrail/evaluation``. MLflow imports this module for
everybody who evaluates anything, so it loads no torch.
"""

import tempfile
from collections.abc import Mapping
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models.evaluation import EvaluationResult, ModelEvaluator

MODEL_TYPE = "attrail-image"
FOLDER = "attrail/evaluation"


class AttrailEvaluator(ModelEvaluator):
    """MLflow's evaluator ``attrail``: asked by its model type, never only because it is installed."""

    @classmethod
    def can_evaluate(cls, *, model_type: str, evaluator_config: Mapping[str, Any], **kwargs: Any) -> bool:
        """Whether this evaluator is meant: by the model type, whatever the configuration."""
        return model_type == MODEL_TYPE

    def evaluate(
        self,
        *,
        model_type: str,
        dataset: Any,
        run_id: str,
        evaluator_config: Mapping[str, Any],
        model: Any = None,
        **kwargs: Any,
    ) -> EvaluationResult:
        """Explain and check; MlflowException says what is wrong with the table, the model or the configuration."""
        from attrail_explainers.errors import AttrailError  # noqa: PLC0415 - see above
        from attrail_mlflow.plugin.evaluation import evaluate_to_folder  # noqa: PLC0415
        from attrail_mlflow.signing.keyless_process import call_apart, must_be_apart  # noqa: PLC0415

        if model is not None and must_be_apart():
            raise MlflowException.invalid_parameter_value(
                "attrail: MLflow has loaded this model where ATTRAIL_SIGNING_KEY is set, and such a process "
                "must load none: give model_id in the place of model, or unset the variable"
            )
        model_id = kwargs.get("model_id") or getattr(model, "model_id", None)
        with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
            try:
                arguments = (mlflow.get_tracking_uri(), evaluator_config or {}, dataset, model_id, folder)
                metrics = call_apart(must_be_apart(), evaluate_to_folder, *arguments)
            except AttrailError as error:
                raise MlflowException.invalid_parameter_value(f"attrail: {error}") from error
            mlflow.MlflowClient().log_artifacts(run_id, folder, FOLDER)
        mlflow.log_metrics(metrics, run_id=run_id, model_id=model_id)
        return EvaluationResult(metrics=metrics, artifacts={}, run_id=run_id)
