"""The floor's maps: read back one model at a time; what cannot be read is left out and said."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest

from attrail_explainers.attributions import Attributions, save_attributions
from attrail_mlflow.runs.floor_maps import floor_maps

SUBJECT = ("validation", "gradcam")


def maps_of(model: str) -> Attributions:
    values = np.random.default_rng(int(model[-1])).random((3, 4, 4)).astype(np.float32)
    facts = {"parameters": {"seed": 0}, "targets": np.arange(3), "sample_ids": ("a", "b", "c")}
    facts |= {"slice_name": "validation", "slice_digest": "sha256:slice", "weights_digest": f"sha256:{model}"}
    return Attributions(explainer="gradcam", values=values, model=model, **facts)


@pytest.fixture
def calibrated(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Makes a run that keeps maps of some models as a calibration does, and returns its id."""

    def keep(*models: str, spoil: str = "") -> str:
        folder = tmp_path / "files"
        for model in models:
            path = folder.joinpath("maps", *SUBJECT, f"floor-{model.replace('/', '-')}.safetensors")
            save_attributions(maps_of(model), path)
            if model == spoil:
                content = bytearray(path.read_bytes())
                content[-1] ^= 1
                path.write_bytes(content)
        (folder / "maps" / "validation" / "gradcam" / "notes.txt").write_text("no floor")
        with mlflow.start_run(experiment_id=experiment) as run:
            mlflow.log_artifacts(str(folder), "attrail")
        return run.info.run_id

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = mlflow.create_experiment("calibrations", artifact_location=str(tmp_path / "artifacts"))
    try:
        yield keep
    finally:
        mlflow.set_tracking_uri(before)


def test_every_models_maps_come_back_as_they_were(calibrated: Callable[..., str]) -> None:
    run_id = calibrated("digits/3", "digits/2")
    found = list(floor_maps(run_id, SUBJECT))
    assert [each.model for each in found] == ["digits/2", "digits/3"]
    assert [each.digest for each in found] == [maps_of(each.model).digest for each in found]


def test_a_changed_file_is_left_out_and_named(calibrated: Callable[..., str], caplog: pytest.LogCaptureFixture) -> None:
    run_id = calibrated("digits/2", "digits/3", "digits/4", spoil="digits/3")
    with caplog.at_level(logging.WARNING):
        assert [each.model for each in floor_maps(run_id, SUBJECT)] == ["digits/2", "digits/4"]
    assert "floor-digits-3.safetensors cannot be used" in caplog.text
    assert run_id in caplog.text


def test_a_run_without_such_maps_or_none_at_all_gives_nothing(
    calibrated: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    assert list(floor_maps(calibrated("digits/2"), ("validation", "shap"))) == []
    with caplog.at_level(logging.WARNING):
        assert list(floor_maps("0" * 32, SUBJECT)) == []
    assert "cannot be listed" in caplog.text
