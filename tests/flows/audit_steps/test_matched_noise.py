"""Two versions and nothing else: the floor is noise as large as the candidate's move, said, kept, and never DRIFT."""

import json
from collections.abc import Callable

import mlflow
import numpy as np
import pytest

from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.divergence import churn, mean_divergence
from attrail_explainers.model.weight_noise import WeightNoise, noised
from attrail_explainers.runtime.torch_threads import one_torch_thread
from attrail_flows.audit_steps import matched_noise
from attrail_flows.configuration import read_config
from attrail_flows.inputs.slices import read_slices
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.floor_maps import floor_maps

Run = Callable[..., tuple[int, str, str]]
GRADCAM = '[[explainer]]\nname = "gradcam"'


def audited(attrail: Run, workplace, candidate: str, **changes: object) -> tuple[dict, str]:
    """The record of an audit without a floor, and what was said on the way."""
    result = workplace.folder / "result.json"
    config = workplace.config(**({"floor": [], "slice": "limit = 40", "explainers": GRADCAM} | changes))
    status, out, err = attrail("audit", "--config", config, "--candidate", candidate, "--json", result)
    assert status in (0, 3), err
    return json.loads(result.read_text()), out + err


def test_a_cheat_without_a_floor_is_noticed_and_no_drift(attrail: Run, workplace) -> None:
    record, said = audited(attrail, workplace, "8")
    assert record["verdict"] == "INCONCLUSIVE"
    assert "times as far as weight noise that moves the decisions as far" in record["reason"]
    assert record["next_step"].startswith("give a noise floor before you act on it")
    assert {row["floor_tier"] for row in record["measurements"] if row["primary"]} == {"M"}
    assert " noise " in said


def test_the_noise_is_recorded_and_can_be_made_again(attrail: Run, workplace) -> None:
    """The divergence that was wanted, what was reached, and maps that a plain call of the library gives again."""
    record, _ = audited(attrail, workplace, "7")
    (noise,) = record["calibration"]["noise"]
    assert record["calibration"]["source"] == "noise"
    assert [each["label"] for each in record["floor"]] == [f"digits/1 with noise {draw}" for draw in range(1, 6)]
    registry = Registry(workplace.tracking_uri)
    reference, candidate = (registry.load(registry.resolve("digits", number)) for number in ("1", "7"))
    config = read_config(workplace.folder / "attrail.toml")
    (slice_,) = read_slices(config, registry.resolve("digits", "1"))
    with one_torch_thread():
        first, second = (each.logits(slice_.images, slice_.sample_ids) for each in (reference, candidate))
        assert noise["divergence"] == pytest.approx(mean_divergence(first, second), rel=1e-6)
        assert noise["churn"] == churn(first, second)
        for draw, facts in zip(noise["draws"], record["floor"], strict=True):
            assert draw["divergence"] == pytest.approx(noise["divergence"], rel=0.1)
            given = WeightNoise(draw["draw"], draw["seed"], draw["sigma"])
            noisy = noised(reference, reference.working_copy(slice_.images), given)
            assert noisy.weights_digest == facts["weights_digest"]
            assert mean_divergence(first, noisy.logits(slice_.images, slice_.sample_ids)) == draw["divergence"]
        layer = next(each["parameters"] for each in record["explainers"] if each["name"] == "gradcam")
        expected = explain_slice(noisy, slice_, [make_explainer("gradcam", layer)], slice_.labels, seed=0)[0]
    floors = [row for row in record["measurements"] if row["primary"]]
    assert all(len(row["floor_distances"]) == 5 for row in floors)
    mlflow.set_tracking_uri(workplace.tracking_uri)
    kept = {each.model: each for each in floor_maps(record["calibration"]["run_id"], ("validation", "gradcam"))}
    assert np.array_equal(kept["digits/1 with noise 5"].values, expected.values, equal_nan=True)


def test_the_same_audit_again_computes_nothing_and_says_the_same(attrail: Run, workplace) -> None:
    first, _ = audited(attrail, workplace, "7")
    before = len(workplace.kept())
    second, _ = audited(attrail, workplace, "7")
    assert len(workplace.kept()) == before
    assert second["calibration"]["run_id"] == first["calibration"]["run_id"]
    assert second["measurements"] == first["measurements"]


def test_three_retrains_are_no_floor_and_noise_stands_in(attrail: Run, workplace) -> None:
    record, _ = audited(attrail, workplace, "7", floor=["2", "3", "4"])
    assert record["calibration"]["source"] == "noise"
    wanted = "registry.floor names 3 of the 4 models that a floor needs at least: matched noise stands in"
    assert wanted in record["remarks"]


def test_noise_that_moves_the_answers_less_is_no_floor_and_the_record_says_it(
    attrail: Run, workplace, monkeypatch, caplog
) -> None:
    """What noise can do has an end, and a floor of less noise than was asked for would be too low."""
    monkeypatch.setattr(matched_noise, "REACHED", 10.0)
    record, _ = audited(attrail, workplace, "8")
    assert record["verdict"] == "INCONCLUSIVE"
    assert record["calibration"]["noise"] == []
    assert {row["floor_tier"] for row in record["measurements"] if row["primary"]} == {"0"}
    moved = "no noise moves the answers of digits/1 as far as those of digits/8 are moved"
    wanted = f"there is no noise floor: on slice validation {moved}"
    assert wanted in record["remarks"]
    assert wanted in caplog.text
