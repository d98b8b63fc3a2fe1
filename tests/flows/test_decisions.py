"""Decisions in an audit: in its verdict, its record, its words, its floor, and in MLflow."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pytest
import timm
import torch

from attrail_explainers.errors import ConfigError
from attrail_explainers.slice import Preprocessing
from attrail_flows.configuration import read_config
from attrail_mlflow.log_classifier import log_classifier
from digits import CLASSES
from train import ARCHITECTURE, OPTIONS

Run = Callable[..., tuple[int, str, str]]
GRADCAM = '[[explainer]]\nname = "gradcam"'
STATISTICS = ["accuracy_loss", "calibration_error", "churn"]


@pytest.fixture(scope="module")
def untrained(trained_registry: Path) -> str:
    """A version of another name that decides by chance."""
    mlflow.set_tracking_uri(f"sqlite:///{trained_registry / 'mlflow.db'}")
    mlflow.set_experiment("training")
    torch.manual_seed(0)
    model = timm.create_model(ARCHITECTURE, **OPTIONS).eval()
    example = np.zeros((2, 3, 64, 64), dtype=np.float32)
    names = [str(digit) for digit in range(CLASSES)]
    number = log_classifier(model, "untrained", example, Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3), names)
    return f"models:/untrained/{number}"


def audited(attrail: Run, workplace, candidate: str, **changes: object) -> tuple[int, dict, str]:
    result = workplace.folder / "result.json"
    config = workplace.config(explainers=GRADCAM, **changes)
    status, out, err = attrail("audit", "--config", config, "--candidate", candidate, "--json", result)
    assert result.exists(), err
    return status, json.loads(result.read_text()), out


def whole(document: dict) -> dict[str, dict]:
    return {row["statistic"]: row for row in document["decisions"] if row["stratum"] == "all"}


def test_an_honest_retrain_decides_as_the_floors_models_do(attrail: Run, workplace) -> None:
    _, document, out = audited(attrail, workplace, "7")
    found = whole(document)
    assert list(found) == STATISTICS
    assert {row["verdict"] for row in found.values()} == {"PASS"}
    (slice_,) = document["slices"]
    accuracy = {label: slice_["accuracy"][label] for label in ("digits/1", "digits/7")}
    row = found["accuracy_loss"]
    assert (row["reference"], row["candidate"]) == pytest.approx((accuracy["digits/1"], accuracy["digits/7"]))
    losses = [accuracy["digits/1"] - slice_["accuracy"][label] for label in row["floor_models"]]
    assert row["floor_values"] == pytest.approx(losses)
    assert found["churn"]["value"] == pytest.approx(slice_["flipped"] / slice_["images"])
    assert f"{slice_['flipped']} predictions differ" in out
    assert [row["what"] for row in document["judged"][:3]] == STATISTICS
    assert {row["explainer"] for row in document["judged"][:3]} == {"decisions"}
    metrics = mlflow.MlflowClient(workplace.tracking_uri).get_run(document["run_id"]).data.metrics
    assert metrics["validation/decisions/churn/value"] == pytest.approx(found["churn"]["value"])
    _, again, _ = audited(attrail, workplace, "7")
    assert again["calibration"] == document["calibration"]
    assert again["decisions"] == document["decisions"]


@pytest.mark.parametrize("floor", [("2", "3", "4", "5", "6"), ()])
def test_accuracy_that_fell_is_drift_with_and_without_a_floor(
    attrail: Run, workplace, untrained: str, floor: tuple[str, ...]
) -> None:
    status, document, out = audited(attrail, workplace, untrained, floor=floor)
    assert (status, document["verdict"]) == (1, "DRIFT"), document["reason"]
    row = whole(document)["accuracy_loss"]
    assert row["verdict"] == "DRIFT"
    assert (row["floor"] is None) is (not floor)
    said = f"its decisions moved: on slice validation accuracy fell from {100 * row['reference']:.1f} % to"
    assert document["reason"].startswith(said)
    assert said in out
    page = (Path(workplace.runs()[0].info.artifact_uri) / "attrail" / "report.html").read_text()
    assert "Its decisions" in page
    assert row["words"][1:] in page
    if not floor:
        assert (whole(document)["churn"]["verdict"], whole(document)["churn"]["unfit"]) == ("INCONCLUSIVE", True)


def test_shares_and_margins_of_decisions_are_keys_of_the_policy(workplace) -> None:
    given = {"decision_share": 0.3, "accuracy_margin": 0.01, "churn_margin": 0.2, "calibration_margin": 0.1}
    text = "\n".join(f"{key} = {value}" for key, value in given.items())
    policy = read_config(workplace.config(policy=text)).policy.to_policy()
    assert {key: getattr(policy, key) for key in given} == given
    for key, value in (("decision_share", 1), ("accuracy_margin", -0.1), ("churn_margin", 2), ("churn_margin", "true")):
        with pytest.raises(ConfigError, match=key):
            read_config(workplace.config(policy=f"{key} = {value}"))
