"""One evaluation: a logged model, a table of images, explainers and checks.

The configuration holds ``explainers``, tables with a ``name`` and parameters; and, if wanted, ``checks`` (names, else
all there are), ``preprocessing`` (``size``, ``mean``, ``std``, else the logged model's own), ``slice`` (a name for the
table, else "evaluation"), ``seed`` (else 0).
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
from attrail_explainers.slice import Preprocessing, Slice, require_known_numbers
from attrail_mlflow.registry.preprocessing import preprocessing_from, stated_preprocessing
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_monitoring.expectations.inputs import validate_slice_table
from attrail_monitoring.slices.slice_table import label_indices, slice_table_of

IMAGE = "image_path"
KEYS = ("checks", "explainers", "preprocessing", "seed", "slice")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What is explained, by what, and held against what."""

    classifier: Classifier
    images: Slice
    explainers: tuple[Explainer, ...]
    checks: tuple[Check, ...]
    seed: int

    def run(self, folder: str) -> dict[str, float]:
        """The metrics: ``accuracy``, and ``EXPLAINER/CHECK``, means over images; whole findings as files in a folder.

        A check that is defined on no image has no metric.
        """
        logits = self.classifier.logits(self.images.images, self.images.sample_ids)
        metrics = {"accuracy": float((logits.argmax(axis=1) == self.images.labels).mean())}
        for explainer in self.explainers:
            found = assess_slice(self.classifier, self.images, explainer, self.checks, self.images.labels, self.seed)
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
    images = _images(config, dataset, logged)
    return Evaluation(
        classifier=registry.load(logged).for_images(images.preprocessing),
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


def _images(config: Mapping[str, Any], dataset: Any, logged: LoggedModel) -> Slice:
    """The table's images as the model takes them; its rows' paths are the sample ids."""
    rows = dataset.features_data
    if IMAGE not in getattr(rows, "columns", ()):
        raise SliceError(f"the data must be a table with a column {IMAGE}")
    if dataset.labels_data is None:
        raise SliceError("the data has no labels: name their column as targets")
    preprocessing = _preprocessing(config, logged)
    name = str(config.get("slice", "evaluation"))
    table = slice_table_of(name, Path("the data"), pd.DataFrame({"image": rows[IMAGE], "label": dataset.labels_data}))
    labels = label_indices(table, logged.class_names, logged.classes)
    validate_slice_table(table, labels, logged.classes)
    pixels = decode(table.pictures, preprocessing)
    return Slice(name, pixels, labels.to_numpy(dtype=np.int64), tuple(table.rows["image"]), preprocessing)


def _preprocessing(config: Mapping[str, Any], logged: LoggedModel) -> Preprocessing:
    """The configuration's preprocessing, else the logged model's own."""
    given = config.get("preprocessing")
    where = "preprocessing in evaluator_config"
    found = preprocessing_from(given, where, "correct it") if given else stated_preprocessing(logged)
    if found is None:
        raise ConfigError(f"{logged.name} does not say how its images are preprocessed: give preprocessing")
    require_known_numbers(logged.label, logged.input_type)
    return found
