"""One evaluation: a logged model, a table of images, explainers and checks.

The configuration holds ``explainers``, tables with a ``name`` and parameters; and, if wanted, ``checks`` (names, else
all there are), ``task`` (a table with a ``name`` and parameters, else one class of several), ``preprocessing``
(``size``, ``mean``, ``std``, else the logged model's own), ``slice`` (a name for the table, else "evaluation"),
``seed`` (else 0).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrail_explainers.assessment.assessment import assess_slice, chosen_checks
from attrail_explainers.assessment.check import Check
from attrail_explainers.errors import ConfigError, SliceError, UnknownNameError
from attrail_explainers.explainer import Explainer, make_explainer
from attrail_explainers.images import decode
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import Answers, Task, make_task
from attrail_explainers.slice import Preprocessing, Slice, require_known_numbers
from attrail_mlflow.registry.preprocessing import preprocessing_from, stated_preprocessing
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.expectations.inputs import validate_slice_table
from attrail_monitoring.slices.questions import questions
from attrail_monitoring.slices.slice_table import label_indices, slice_table_of

IMAGE = "image_path"
KEYS = ("checks", "explainers", "preprocessing", "seed", "slice", "task")
ASKED = ("labels", "query", "value")  # columns that tasks ask by, beside label, which a table has here


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is explained, by what, and held against what."""

    classifier: Classifier
    images: Slice
    explainers: tuple[Explainer, ...]
    checks: tuple[Check, ...]
    seed: int

    def run(self, folder: str) -> dict[str, float]:
        """The metrics: ``accuracy``, where it is known what is right, and ``EXPLAINER/CHECK``, means over images.

        Whole findings are files in a folder. A check that is defined on no image has no metric.
        """
        task = self.classifier.asked
        outputs = self.classifier.logits(self.images.images, self.images.sample_ids)
        target = task.asked(self.images) or task.answered(self.images, outputs)
        metrics = _accuracy(task.decided(self.images, outputs, target))
        for explainer in self.explainers:
            found = assess_slice(self.classifier, self.images, explainer, self.checks, target, self.seed)
            metrics |= {f"{found.explainer}/{name}": outcome.mean for name, outcome in found.outcomes.items()}
            text = json.dumps(found.document(), indent=1, allow_nan=False)
            Path(folder, f"{found.explainer}.json").write_text(text + "\n", encoding="utf-8")
        return {name: value for name, value in metrics.items() if not math.isnan(value)}


@dataclass(frozen=True)
class LoggedModel(RegisteredVersion):
    """A logged model, registered or not: its version is its id."""

    @property
    def uri(self) -> str:
        """The logged model's address in MLflow, ``models:/m-...``."""
        return f"models:/{self.version}"


def evaluate_to_folder(
    tracking_uri: str, config: Mapping[str, Any], dataset: Any, model_id: str | None, folder: str
) -> dict[str, float]:
    """The metrics of the evaluation that MLflow's arguments ask for; see ``read_evaluation`` and ``Evaluation.run``."""
    return read_evaluation(tracking_uri, config, dataset, model_id).run(folder)


def read_evaluation(tracking_uri: str, config: Mapping[str, Any], dataset: Any, model_id: str | None) -> Evaluation:
    """The evaluation that MLflow's arguments ask for.

    Raises ConfigError for a wrong configuration, SliceError for a table without images or labels, and what loading
    the model raises.
    """
    _require_known(config)
    if model_id is None:
        raise ConfigError("the model was not logged: give a URI such as models:/NAME/VERSION or models:/m-...")
    registry = Registry(tracking_uri)
    mlmodel = registry.mlmodel(f"models:/{model_id}")
    name = registry.client.get_logged_model(model_id).name
    said = (mlmodel.classes, mlmodel.input_shape, mlmodel.metadata, mlmodel.input_type)
    logged = LoggedModel(name or model_id, model_id, "", model_id, None, *said)
    task = _task(config.get("task"))
    images = _images(config, dataset, logged, task)
    return Evaluation(
        classifier=registry.load(logged).for_task(task).for_images(images.preprocessing),
        images=images,
        explainers=tuple(_explainer(each) for each in config["explainers"]),
        checks=tuple(chosen_checks(config.get("checks"))),
        seed=int(config.get("seed", 0)),
    )


def _require_known(config: Mapping[str, Any]) -> None:
    for key in config:
        if key not in KEYS:
            raise UnknownNameError.of("entry in evaluator_config", key, KEYS)
    if not config.get("explainers"):
        raise ConfigError('evaluator_config names no explainers: give for example [{"name": "gradcam"}]')


def _explainer(table: Mapping[str, Any]) -> Explainer:
    if "name" not in table:
        raise ConfigError(f"an explainer in evaluator_config has no name: {dict(table)}")
    return make_explainer(table["name"], {key: value for key, value in table.items() if key != "name"})


def _task(table: Any) -> Task:
    if table is None:
        return make_task()
    if not isinstance(table, Mapping) or "name" not in table:
        raise ConfigError(
            f'task in evaluator_config must be a table with a name, such as {{"name": "multi_label"}}: {table!r}'
        )
    task = make_task(table["name"], {key: value for key, value in table.items() if key != "name"})
    if task.asks_by not in ("label", *ASKED):
        raise ConfigError(
            f"task {table['name']} asks by {task.asks_by}, which tables of MLflow's evaluate do not hold: "
            "`attrail check` does the same on a slice of attrail.toml"
        )
    return task


def _accuracy(found: Answers | None) -> dict[str, float]:
    if found is None or found.truths is None:
        return {}
    right = Decisions(found.predictions, found.truths, tolerance=found.tolerance).right
    return {} if right is None else {"accuracy": float(right.mean())}


def _images(config: Mapping[str, Any], dataset: Any, logged: LoggedModel, task: Task) -> Slice:
    """The table's images as the model takes them; its rows' paths are the sample ids."""
    rows = dataset.features_data
    if IMAGE not in getattr(rows, "columns", ()):
        raise SliceError(f"the data must be a table with a column {IMAGE}")
    if dataset.labels_data is None and task.asks_by == "label":
        raise SliceError("the data has no labels: name their column as targets")
    preprocessing = _preprocessing(config, logged)
    name = str(config.get("slice", "evaluation"))
    if task.asks_by != "label":
        return _asked(name, rows, dataset.labels_data, logged, task, preprocessing)
    table = slice_table_of(name, Path("the data"), pd.DataFrame({"image": rows[IMAGE], "label": dataset.labels_data}))
    labels = label_indices(table, logged.class_names, logged.classes)
    validate_slice_table(table, labels, logged.classes)
    pixels = decode(table.pictures, preprocessing)
    return Slice(name, pixels, labels.to_numpy(dtype=np.int64), tuple(table.rows["image"]), preprocessing)


def _asked(
    name: str, rows: pd.DataFrame, targets: Any, logged: LoggedModel, task: Task, preprocessing: Preprocessing
) -> Slice:
    """A row for each question that the table asks by the task's column, which may be named as targets."""
    frame = rows.rename(columns={IMAGE: "image"})
    frame = frame if targets is None else frame.assign(**{task.asks_by: targets})
    table = slice_table_of(name, Path("the data"), frame, labelled=False)
    none = pd.Series(0, index=table.rows.index, dtype="int64")
    validate_slice_table(table, none, None)
    pixels = decode(table.pictures, preprocessing)
    plain = Slice(name, pixels, np.zeros(len(pixels), dtype=np.int64), tuple(table.rows["image"]), preprocessing)
    return plain.asking(questions(table, task, logged.class_names, logged.classes))


def _preprocessing(config: Mapping[str, Any], logged: LoggedModel) -> Preprocessing:
    """The configuration's preprocessing, else the logged model's own."""
    given = config.get("preprocessing")
    where = "preprocessing in evaluator_config"
    found = preprocessing_from(given, where, "correct it") if given else stated_preprocessing(logged)
    if found is None:
        raise ConfigError(f"{logged.name} does not say how its images are preprocessed: give preprocessing")
    require_known_numbers(logged.label, logged.input_type)
    return found
