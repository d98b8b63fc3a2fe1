"""Bad input ends with status 2 and one sentence that says where and what to do; nothing is recorded as finished."""

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from attrail_explainers.errors import ConfigError
from attrail_explainers.explainer import explainer_names
from attrail_explainers.slice import Preprocessing
from attrail_flows.audit_steps.calibration import source_of
from attrail_flows.configuration import AuditConfig, read_config
from attrail_mlflow.log_classifier import log_classifier
from attrail_mlflow.registry.registry import Registry

Run = Callable[..., tuple[int, str, str]]
CHEAP = {"explainers": '[[explainer]]\nname = "gradcam"', "slice": "limit = 20"}
HALF = Preprocessing(size=(64, 64), mean=(0.5,) * 3, std=(0.5,) * 3)
HALF_TABLE = "[preprocessing]\nsize = [64, 64]\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]"


def refused(attrail: Run, workplace, *arguments: object, **changes: object) -> str:
    """The one sentence an audit ends with; fails unless it is one sentence, status 2, and no run is finished by it."""
    before = {run.info.run_id for run in workplace.runs()}
    status, out, err = attrail("audit", "--config", workplace.config(**changes), *arguments)
    said = [line for line in err.splitlines() if line.startswith("attrail: ")]
    assert status == 2, (out, err)
    assert len(said) == 1, err
    assert "Traceback" not in err + out
    after = [run for run in workplace.runs() if run.info.run_id not in before]
    assert not [
        run for run in after if run.info.status == "FINISHED" or run.data.tags.get("attrail.complete") == "true"
    ]
    return said[0]


def edited(workplace, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    table = workplace.folder / "slices" / "validation.csv"
    change(pd.read_csv(table)).to_csv(table, index=False)


def test_unknown_alias_lists_what_there_is(attrail: Run, workplace) -> None:
    said = refused(attrail, workplace, "--reference", "campion")
    assert "'campion'" in said
    assert "[1, 2, 3, 4, 5, 6, 7, 8]" in said
    assert "['champion']" in said


def test_unknown_version(attrail: Run, workplace) -> None:
    assert "'99'" in refused(attrail, workplace, "--candidate", "99")


def test_unknown_model_and_malformed_uri(attrail: Run, workplace) -> None:
    assert "'digit'" in refused(attrail, workplace, "--candidate", "models:/digit/1")
    assert "models:/NAME/VERSION" in refused(attrail, workplace, "--candidate", "models:/digits")


def test_unreachable_server(attrail: Run, workplace) -> None:
    with socket.socket() as taken:  # bound but not listening: whoever connects is refused at once
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}"
        status, _, err = attrail("audit", "--config", workplace.config(tracking_uri=address))
    assert status == 2
    assert address in err
    assert "Traceback" not in err
    mlflow.set_tracking_uri(workplace.tracking_uri)


def test_sqlite_file_that_does_not_exist_is_not_made(attrail: Run, workplace) -> None:
    status, _, err = attrail("audit", "--config", workplace.config(tracking_uri="sqlite:///typo.db"))
    assert status == 2
    assert "typo.db" in err
    assert not (workplace.folder / "typo.db").exists()
    mlflow.set_tracking_uri(workplace.tracking_uri)


def test_missing_image_file(attrail: Run, workplace) -> None:
    next((workplace.folder / "slices" / "scans").glob("0003-*")).unlink()
    said = refused(attrail, workplace)
    assert "row 4 of" in said
    assert "scans/0003-" in said


def test_unreadable_image(attrail: Run, workplace) -> None:
    path = next((workplace.folder / "slices" / "scans").glob("0003-*"))
    path.write_bytes(path.read_bytes()[:60])
    assert str(path) in refused(attrail, workplace)


def test_label_outside_the_models_classes(attrail: Run, workplace) -> None:
    edited(workplace, lambda rows: rows.assign(label=rows["label"].where(rows.index != 5, 10)))
    said = refused(attrail, workplace)
    assert "row 6 of" in said
    assert "label 10" in said
    assert "0..9" in said


def test_label_that_is_no_class(attrail: Run, workplace) -> None:
    edited(workplace, lambda rows: rows.assign(label=rows["label"].astype(str).where(rows.index != 5, "cat")))
    assert "'cat'" in refused(attrail, workplace)


def test_repeated_image(attrail: Run, workplace) -> None:
    edited(workplace, lambda rows: pd.concat([rows, rows.iloc[[2]]]))
    said = refused(attrail, workplace)
    assert "row 49 of" in said
    assert "repeats" in said


def test_empty_slice_after_where(attrail: Run, workplace) -> None:
    assert "batch > 99" in refused(attrail, workplace, slice='where = "batch > 99"')


def test_wrong_channel_count(attrail: Run, workplace) -> None:
    path = next((workplace.folder / "slices" / "scans").glob("0003-*"))
    Image.open(path).convert("RGBA").save(path)
    said = refused(attrail, workplace)
    assert "4 channels (RGBA), the model takes 3" in said
    one = "[preprocessing]\nsize = [64, 64]\nmean = [0.5]\nstd = [0.5]"
    assert "(1, 64, 64), digits/1 was logged for (3, 64, 64)" in refused(attrail, workplace, preprocessing=one)


def test_unknown_keys_are_refused_by_name(attrail: Run, workplace) -> None:
    assert "'policy.alhpa'" in refused(attrail, workplace, policy="alhpa = 0.1")
    assert "'segmets'" in refused(attrail, workplace, explainers='[[explainer]]\nname = "shap"\nsegmets = 9')
    assert ", ".join(explainer_names()) in refused(attrail, workplace, explainers='[[explainer]]\nname = "grad-cam"')
    assert "coherent_shift" in refused(attrail, workplace, policy="margins = {drift = 1}")
    assert "alpha must lie between" in refused(attrail, workplace, policy="alpha = 1.5")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("[policy]\nfewest_images = true", "'policy.fewest_images': Input should be a valid integer, got True"),
        ("[policy]\nfewest_images = 16.0", "'policy.fewest_images': Input should be a valid integer, got 16.0"),
        ('[policy]\ngrid = "14"', "'policy.grid': Input should be a valid integer, got '14'"),
        ("[policy]\nseed = -1", "'policy.seed'"),
        ("[policy]\nmoved_margin = true", "'policy.moved_margin': Input should be a valid number, got True"),
        ("[policy]\nundefined_limit = nan", "'policy.undefined_limit': Input should be a finite number"),
        ('[policy]\nalpha = "0.05"', "'policy.alpha': Input should be a valid number, got '0.05'"),
        ("[policy]\nmargins = {rank_distance = true}", "'policy.margins.rank_distance'"),
        ("[policy]\nallow_pickle = 1", "'policy.allow_pickle': Input should be a valid boolean, got 1"),
        ("[run]\nworkers = true", "'run.workers': Input should be a valid integer, got True"),
        ('[run]\nfresh = "yes"', "'run.fresh': Input should be a valid boolean, got 'yes'"),
        ("[preprocessing]\nsize = [64, true]\nmean = [0.5]\nstd = [0.5]", "'preprocessing.size.1'"),
        ("[preprocessing]\nsize = [64, 64]\nmean = [0.5]\nstd = [true]", "'preprocessing.std.0'"),
        ('[[explainer]]\nname = "smoothgrad"\nsamples = true', "samples must be a whole number"),
        ('[[explainer]]\nname = "lime"\ntolerance = true', "tolerance must be a share"),
        ('[[explainer]]\nname = "occlusion"\nwindow = true', "window must be a share"),
        ('[[explainer]]\nname = "gradcam"\nlayer = 3', "layer must be the name of a submodule, not 3"),
    ],
)
def test_a_slip_of_kind_is_no_number(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "attrail.toml"
    path.write_text(f'[registry]\nmodel = "m"\n[[slice]]\nname = "v"\nsource = "v.csv"\nlimit = 4\n{table}\n')
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_config(path)
    path.write_text(path.read_text().replace("limit = 4", "limit = true").partition(table)[0])
    with pytest.raises(ConfigError, match=r"'slice.0.limit': Input should be a valid integer, got True"):
        read_config(path)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[slice]\nname = "v"\nsource = "v.csv"', "write [[slice]] instead of [slice]"),
        ('[[slice]]\nname = "v"\nsource = "v.csv"\n[explainer]\nname = "lime"', "write [[explainer]] instead"),
        (
            '[[slice]]\nname = "v"\nsource = "v.csv"\n[[sequence]]\nname = "n"',
            "write [sequence] instead of [[sequence]]",
        ),
        ('[[slice]]\nname = "v"\nsource = "v.csv"\n[[run]]\nworkers = 2', "write [run] instead of [[run]]"),
        (
            '[[slice]]\nname = "v"\nsource = "v.csv"\n[[preprocessing]]\nsize = [64, 64]',
            "write [preprocessing] instead",
        ),
    ],
)
def test_one_bracket_too_few_or_too_many_is_said_so(tmp_path: Path, table: str, said: str) -> None:
    path = tmp_path / "attrail.toml"
    path.write_text(f'[registry]\nmodel = "m"\n{table}\n')
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_config(path)


def test_no_configuration_file_and_wrong_usage(attrail: Run, workplace) -> None:
    status, _, err = attrail("audit", "--config", workplace.folder / "nothing.toml")
    assert (status, "nothing.toml" in err) == (2, True)
    status, _, err = attrail("audit")
    assert (status, "--config" in err) == (2, True)
    status, _, err = attrail(
        "explain", "1", "--config", workplace.config(), "--slice", "x", "--explainer", "lime", "--out", "y"
    )
    assert (status, "validation" in err) == (2, True)


def test_everything_that_can_be_seen_is_said_at_once(workplace) -> None:
    """Before Prefect or timm is loaded, in seconds; beside its attrail.toml the command needs no --config."""
    mlflow.set_tracking_uri(workplace.tracking_uri)
    mlflow.set_experiment("training")
    pickled = {"serialization_format": "pickle", "pip_requirements": ["torch"]}
    mlflow.pytorch.log_model(Flat(), name="model", registered_model_name="kept-as-pickle", **pickled)
    edited(workplace, lambda rows: rows.drop(columns="label"))
    workplace.config(candidate="nix", floor=["98", "2", "models:/kept-as-pickle/1"], policy="fewest_images = 4")
    code = (
        "import sys, time; from attrail_flows.cli import main; sys.argv = ['attrail', 'audit']\n"
        "try: main()\n"
        "finally: print({'prefect', 'timm', 'great_expectations'} & set(sys.modules), time.process_time())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=workplace.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    first, said, *found = done.stderr.splitlines()
    assert "digits" in first
    assert said == "attrail: 4 things are wrong, and nothing was computed:"
    for wrong, line in zip(
        ("'nix'", "'98'", "kept-as-pickle/1 is pickled", "lacks the column label"), found, strict=True
    ):
        assert wrong in line
    loaded, seconds = done.stdout.rsplit(maxsplit=1)
    assert loaded == "set()"
    assert float(seconds) < 15, "8 s on a machine that does nothing else"


def test_the_reference_is_no_candidate(attrail: Run, workplace) -> None:
    for spelling in ("1", "champion", "models:/digits@champion"):
        assert "are the same version, digits/1" in refused(attrail, workplace, "--candidate", spelling)


def test_version_numbers_may_be_numbers(workplace) -> None:
    path = workplace.config()
    path.write_text(path.read_text().replace('candidate = "7"', "candidate = 7").replace('["2", "3",', '[2, "3",'))
    section = read_config(path).registry
    assert (section.candidate, section.floor[:2]) == ("7", ("2", "3"))


@pytest.mark.parametrize("word", ["history", "retrains"])
def test_a_floor_may_be_a_word_that_says_what_its_versions_are(workplace, word: str) -> None:
    config = read_config(workplace.config(floor=word, registry=f'floor_source = "{word}"'))
    assert (config.registry.floor, source_of(config)) == (word, word)
    assert config.between("digits", "1", "2").registry.floor == word
    assert config.between("letters", "1", "2").registry.floor == (word if word == "history" else ())
    assert AuditConfig.model_validate(config.model_dump(mode="json", by_alias=True)) == config, "as Prefect keeps it"


def test_listed_versions_are_no_floor_of_another_model(workplace) -> None:
    assert read_config(workplace.config()).between("letters", "1", "2").registry.floor == ()


@pytest.mark.parametrize(
    ("floor", "key"),
    [
        ('"historie"', "'registry.floor': Input should be a list of versions, 'history' or 'retrains', got 'historie'"),
        ('"5"', "'registry.floor': Input should be a list of versions, 'history' or 'retrains', got '5'"),
        ("5", "'registry.floor': "),
        ('["2", true]', "'registry.floor.1': Input should be a valid string, got True"),
        ('"history"\nfloor_source = "surrogates"', "registry.floor_source says 'surrogates': remove floor_source"),
    ],
)
def test_a_floor_that_is_neither_a_list_nor_a_known_word(workplace, floor: str, key: str) -> None:
    path = workplace.config(floor=[])
    path.write_text(path.read_text().replace("floor = []", f"floor = {floor}"))
    with pytest.raises(ConfigError, match=re.escape(key)):
        read_config(path)


def test_a_candidate_in_its_own_floor(attrail: Run, workplace) -> None:
    assert "digits/3" in refused(attrail, workplace, "--candidate", "3")
    assert "twice" in refused(attrail, workplace, floor=["2", "2", "3", "4"])
    for change, why in (("architecture", "set [policy.margins]"), ("same-function", "the explainers' own draws")):
        said = refused(attrail, workplace, registry=f'change = "{change}"')
        assert f"change = '{change}'" in said
        assert why in said
        assert f"change = '{change}'" in refused(attrail, workplace, floor="history", registry=f'change = "{change}"')
    assert "'registry.floor_source'" in refused(attrail, workplace, registry='floor_source = "guesses"')


@pytest.fixture
def logged(workplace, trained_registry) -> Callable[[nn.Module], str]:
    """Logs a module as a new version of a model of its own; returns its URI."""

    def log(module: nn.Module, name: str, **changes: object) -> str:
        mlflow.set_tracking_uri(workplace.tracking_uri)
        mlflow.set_experiment("training")
        example = np.random.default_rng(0).normal(size=(2, 3, 64, 64)).astype(np.float32)
        return f"models:/{name}/{log_classifier(module, name, example, HALF, **changes)}"

    return log


def test_what_is_taken_as_it_is_is_said_on_the_terminal_and_in_the_record(
    attrail: Run, workplace, caplog: pytest.LogCaptureFixture
) -> None:
    """A floor of three models, and a candidate that MLflow exported for one image."""
    mlflow.set_tracking_uri(workplace.tracking_uri)
    mlflow.set_experiment("training")
    more = {"registered_model_name": "of-one-image", "pip_requirements": ["torch"]}
    more["input_example"] = np.zeros((1, 3, 64, 64), np.float32)
    logged_ = mlflow.pytorch.log_model(Flat().eval(), name="model", **more)
    config = workplace.config(
        floor=["2", "3", "4"],
        slice="limit = 4",
        explainers='[[explainer]]\nname = "lime"\nevaluations = 20',
        preprocessing=HALF_TABLE,
    )
    candidate = f"models:/of-one-image/{logged_.registered_model_version}"
    result = workplace.folder / "audit.json"
    status, _, err = attrail("audit", "--config", config, "--candidate", candidate, "--json", result)
    assert status == 3, err
    document = json.loads(result.read_text())
    assert document["candidate"]["batch_size"] == 1
    assert document["reference"]["batch_size"] is None
    few, one = document["remarks"]
    assert few == "registry.floor names 3 of the 4 models that a floor needs at least: matched noise stands in"
    assert one.startswith("of-one-image/1 was exported for one image at a time")
    assert one.endswith("log it again with two or more example images")
    report = Path(document["report_location"]).read_text()
    for remark in (few, one):
        assert caplog.text.count(remark) == 1
        assert remark in report


class Flat(nn.Module):
    """No layer with a grid."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.head = nn.Linear(3 * 64 * 64, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(images.flatten(1))


class Broken(Flat):
    """NaN for every image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) * torch.nan


def test_model_without_a_layer_for_gradcam(attrail: Run, workplace, logged) -> None:
    uri, other = logged(Flat(), "flat"), logged(Flat(), "flat")
    said = refused(attrail, workplace, "--reference", uri, "--candidate", other, floor=[])
    assert "flat/1" in said
    assert "use shap or lime" in said


def test_nan_outputs(attrail: Run, workplace, logged) -> None:
    said = refused(attrail, workplace, "--candidate", logged(Broken(), "broken"), **CHEAP)
    assert "broken/1" in said
    assert "NaN" in said
    assert "scans/0000-" in said


def test_class_counts_differ(attrail: Run, workplace, logged) -> None:
    said = refused(attrail, workplace, "--candidate", logged(Flat(7), "seven"))
    assert "digits/1 has 10 classes, seven/1 has 7" in said


def test_floor_with_the_references_weights(attrail: Run, workplace) -> None:
    client = mlflow.MlflowClient(workplace.tracking_uri)
    copy = client.copy_model_version("models:/digits/1", "copied").version
    before = len(workplace.calibrations())
    said = refused(attrail, workplace, **CHEAP, floor=["2", "3", "4", f"models:/copied/{copy}"])
    assert f"copied/{copy} in registry.floor has the weights of digits/1" in said
    assert len(workplace.calibrations()) == before  # nothing that a later audit could take up


def test_candidate_with_the_weights_of_a_floor_version(attrail: Run, workplace) -> None:
    client = mlflow.MlflowClient(workplace.tracking_uri)
    copy = client.copy_model_version("models:/digits/3", "again").version
    said = refused(attrail, workplace, "--candidate", f"models:/again/{copy}", **CHEAP)
    assert f"digits/3 in registry.floor has the weights of again/{copy}: it is no retrain" in said


def test_floor_with_one_retrain_under_two_names(attrail: Run, workplace) -> None:
    client = mlflow.MlflowClient(workplace.tracking_uri)
    copy = client.copy_model_version("models:/digits/3", "twin").version
    said = refused(attrail, workplace, **CHEAP, floor=["2", "3", "4", f"models:/twin/{copy}"])
    assert f"twin/{copy} in registry.floor has the weights of digits/3: it is no retrain" in said


@pytest.fixture
def in_training(workplace) -> str:
    """A model as a training loop leaves it, logged as it is."""
    mlflow.set_tracking_uri(workplace.tracking_uri)
    mlflow.set_experiment("training")
    body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Dropout(0.5))
    module = nn.Sequential(body, nn.Flatten(), nn.Linear(8, 10)).train()
    example = np.zeros((2, 3, 64, 64), np.float32)
    more = {"registered_model_name": "in-training", "input_example": example, "pip_requirements": ["torch"]}
    return f"models:/in-training/{mlflow.pytorch.log_model(module, name='model', **more).registered_model_version}"


def test_an_export_in_training_mode_is_refused_at_every_door(attrail: Run, workplace, in_training: str) -> None:
    said = refused(attrail, workplace, "--candidate", in_training, **CHEAP, preprocessing=HALF_TABLE, floor=[])
    why = "its graph holds batch_norm in training mode and dropout in training mode; call model.eval() before log_model"
    assert why in said
    later = '[[slice]]\nname = "later"\nsource = "slices/validation.csv"\nlimit = 8\n'
    config = workplace.config(
        explainers=CHEAP["explainers"], slice=f"limit = 8\n{later}", preprocessing=HALF_TABLE, floor=[]
    )
    one = ("--slice", "validation", "--explainer", "gradcam", "--out", workplace.folder / "out")
    doors = {
        "baseline": (in_training,),
        "explain": (in_training, *one),
        "check": (in_training, *one),
        "windows": (in_training, "--first", "validation", "--second", "later", "--explainer", "gradcam"),
        "calibrate": ("--reference", in_training),
    }
    for door, arguments in doors.items():
        status, out, err = attrail(door, *arguments, "--config", config)
        assert status == 2, (door, out, err)
        assert why in err, door
        assert "Traceback" not in out + err


def test_pickled_model_only_if_the_policy_says_so(
    attrail: Run, workplace, logged, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow.set_tracking_uri(workplace.tracking_uri)
    more = {"serialization_format": "pickle", "pip_requirements": ["torch"], "registered_model_name": "pickled"}
    logged_twice = [mlflow.pytorch.log_model(Flat(), name="model", **more) for _ in range(2)]
    other, uri = (f"models:/pickled/{each.registered_model_version}" for each in logged_twice)
    changes = {"explainers": '[[explainer]]\nname = "lime"\nevaluations = 20', "floor": [], "slice": "limit = 20"}
    one = "[preprocessing]\nsize = [64, 64]\nmean = [0.5, 0.5, 0.5]\nstd = [0.5, 0.5, 0.5]"
    arguments = ["--reference", other, "--candidate", uri]
    status, _, err = attrail("audit", "--config", workplace.config(preprocessing=one, **changes), *arguments)
    assert (status, err.count("allow_pickle = true")) == (2, 2), err
    config = workplace.config(preprocessing=one, policy="allow_pickle = true", **changes)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(Registry, "load", None)  # in this process: workers load pickles
        status, out, err = attrail("audit", "--config", config, *arguments, "--json", workplace.folder / "audit.json")
    assert status in (0, 3), err
    assert "pickled/" in out
    document = json.loads((workplace.folder / "audit.json").read_text())
    assert document["candidate"]["pickled"]
    assert document["policy"]["allow_pickle"]
    report = Path(document["report_location"]).read_text()
    assert (
        f"Loaded from pickles, which can run any code, as the policy allowed: {other.removeprefix('models:/')}, "
        f"{uri.removeprefix('models:/')}" in report
    )


def test_a_run_that_could_not_be_kept_is_not_finished(attrail: Run, workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store breaks down after half of the files, of the audit's as of the calibration's before it."""
    real = mlflow.MlflowClient.log_artifacts

    def half(self, run_id, folder, path=None):
        real(self, run_id, folder, path)
        run = self.get_run(run_id)
        shutil.rmtree(f"{run.info.artifact_uri}/{path}/maps")

    monkeypatch.setattr(mlflow.MlflowClient, "log_artifacts", half)
    cheap = CHEAP | {"slice": "limit = 21"}
    before = len(workplace.calibrations())
    assert "did not arrive" in refused(attrail, workplace, **cheap)
    assert len(workplace.calibrations()) == before
    with monkeypatch.context() as intact:
        intact.setattr(mlflow.MlflowClient, "log_artifacts", real)
        assert attrail("calibrate", "--config", workplace.config(**cheap))[0] == 0
    assert len(workplace.calibrations()) == before + 1
    assert "did not arrive" in refused(attrail, workplace, **cheap)
    newest = workplace.runs()[0]
    assert newest.info.status == "FAILED"
    assert newest.data.tags["attrail.complete"] == "false"
