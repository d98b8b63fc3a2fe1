"""Parameters of one recipe: what is passed over, and what may look like it and is not."""

import pytest

from attrail_mlflow.history.parameters import compare_parameters, is_no_recipe


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *[
            (name, ("1", "2"))
            for name in ("seed", "random_state", "trainer.seed", "dataSeed", "numpy/rng", "SEED", "seeds")
        ],
        ("seed", ("7", None)),
        ("random_state", ("None", "3")),
        *[
            (name, ("a", "b"))
            for name in ("date", "run_date", "timestamp", "train.startDate", "start_time", "created_at")
        ],
        *[(name, ("a", "b")) for name in ("run_name", "experiment", "job_id", "hostname", "mlflow.runName")],
        *[
            (name, ("a", "b"))
            for name in ("output_dir", "outputDir", "log_path", "trainer.save_dir", "default_root_dir")
        ],
        *[
            (name, ("a", "b"))
            for name in ("results-folder", "out", "model_save_path", "save_to", "logdir", "outfile", "ckpt_dir")
        ],
    ],
)
def test_what_is_no_part_of_a_recipe(name: str, values: tuple[str | None, ...]) -> None:
    assert is_no_recipe(name, values)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *[
            (name, ("1", "2"))
            for name in ("lr", "epochs", "batch_size", "output_channels", "out_features", "log_scale")
        ],
        *[
            (name, ("1", "2"))
            for name in ("update_rate", "candidates", "timeout", "max_time", "time_steps", "seedling")
        ],
        *[(name, ("a", "b")) for name in ("model_name", "dataset_name", "data_dir", "checkpoint_path", "weights", "")],
        *[
            (name, ("a", "b"))
            for name in ("data_date", "dataset.snapshotDate", "split_date", "optimizer", "---", "init")
        ],
        ("seed", ("imagenet", "42")),
        ("seed_everything", ("True", "42")),
    ],
)
def test_what_is_part_of_a_recipe(name: str, values: tuple[str | None, ...]) -> None:
    assert not is_no_recipe(name, values)


def test_dates_of_data_are_what_a_refresh_changes() -> None:
    assert is_no_recipe("data_date", ("a", "b"), refreshed=True)
    assert not is_no_recipe("data_dir", ("a", "b"), refreshed=True)


def test_parameters_are_compared_by_value_and_in_words() -> None:
    own = {"lr": "1e-2", "epochs": "12", "seed": "3", "mixup": "0.2", "note": "x" * 200, "nan": "nan", "flag": ""}
    other = {"lr": "0.01", "epochs": "12.0", "seed": "0", "decay": "0.1", "note": "y", "nan": "nan", "flag": "on"}
    found = compare_parameters(own, other, "digits/1")
    assert found.same == 3
    assert found.passed_over == ("seed (3)",)
    decay, flag, mixup, note = found.differ
    assert decay == "decay is none, digits/1 has 0.1"
    assert flag == "flag is empty, digits/1 has on"
    assert mixup == "mixup is 0.2, digits/1 has none"
    assert note == f"note is {'x' * 80}..., digits/1 has y"
