"""attrail windows: one version's maps on two windows, and nothing of them is kept."""

from collections.abc import Callable

import mlflow

Run = Callable[..., tuple[int, str, str]]


def test_a_window_beside_itself_differs_in_nothing(attrail: Run, workplace) -> None:
    config = workplace.config(slice="limit = 8", registry='experiment = "windows"')
    both = ("--first", "validation", "--second", "validation", "--explainer", "gradcam")
    status, printed, err = attrail("windows", "models:/digits/1", "--config", config, *both)
    assert status == 0, err
    lines = printed.splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == ["mmd", "energy"]
    for line in lines[:2]:
        assert "p = 1: no difference shown (8 and 8 images, 0 without a map)" in line
    assert mlflow.MlflowClient(workplace.tracking_uri).get_experiment_by_name("windows") is None
