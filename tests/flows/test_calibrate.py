"""Calibrations: measured once, kept in MLflow, used until something they depend on changes."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest

from attrail_explainers import load_attributions
from attrail_explainers.digest import digest_of
from attrail_monitoring.floor import factors
from attrail_monitoring.maps.statistic import make_statistic, statistic_names

Run = Callable[..., tuple[int, str, str]]
GRADCAM = '[[explainer]]\nname = "gradcam"'
CHEAP = GRADCAM + '\n\n[[explainer]]\nname = "lime"\nevaluations = {evaluations}'
FLOOR = [f"digits/{number}" for number in range(2, 7)]


def cheap(limit: int = 12, evaluations: int = 24, **changes: object) -> dict[str, object]:
    """Changes of the configuration that make it cheap; too few images for a verdict, unless ``limit`` is raised."""
    return {"slice": f"limit = {limit}", "explainers": CHEAP.format(evaluations=evaluations)} | changes


def audited(attrail: Run, workplace, candidate: str = "7", **changes: object) -> dict:
    result = workplace.folder / "result.json"
    status, _, err = attrail(
        "audit", "--config", workplace.config(**changes), "--candidate", candidate, "--json", result
    )
    assert status in (0, 1, 3), err
    return json.loads(result.read_text())


def refused(attrail: Run, workplace, **changes: object) -> str:
    status, _, err = attrail("audit", "--config", workplace.config(**changes))
    assert status == 2, err
    (said,) = [line for line in err.splitlines() if line.startswith("attrail: ")]
    return said


def kept(run: mlflow.entities.Run) -> Path:
    return Path(run.info.artifact_uri) / "attrail"


def explained(flow_run_id: str) -> set[str]:
    """Versions that a flow run explained."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    with get_client(sync_client=True) as client:
        of_it = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        names = [each.name for each in client.read_task_runs(flow_run_filter=of_it)]
    found = (re.match(r"explain-(digits/\d+)", name) for name in names)
    return {each[1] for each in found if each}


@pytest.fixture
def calibrated(attrail: Run, workplace) -> mlflow.entities.Run:
    """The run of the cheap configuration's calibration, made by the first test that needs it."""
    status, _, err = attrail("calibrate", "--config", workplace.config(**cheap()))
    assert status == 0, err
    return next(run for run in workplace.calibrations() if _is_cheap(run))


def _is_cheap(run: mlflow.entities.Run) -> bool:
    document = json.loads((kept(run) / "calibration.json").read_text())
    parameters = {each["name"]: each["parameters"] for each in document["explainers"]}
    return document["models"] == FLOOR and parameters.get("lime", {}).get("evaluations") == 24


def test_a_calibration_is_kept_with_all_its_maps(calibrated: mlflow.entities.Run) -> None:
    document = json.loads((kept(calibrated) / "calibration.json").read_text())
    assert calibrated.info.status == "FINISHED"
    assert document["key"] == calibrated.data.tags["attrail.calibration"]
    assert document["reference"]["label"] == "digits/1"
    assert [each["label"] for each in document["floor"]] == document["models"] == FLOOR
    assert len({each["weights_digest"] for each in document["floor"]}) == 5
    assert {each["explainer"] for each in document["instruments"]} == {"gradcam", "lime"}
    headline = [(row["explainer"], row["statistic"]) for row in document["floors"] if row["stratum"] == "both right"]
    statistics = [name for name in statistic_names() if name != "outside_shift"]
    assert sorted(headline) == sorted((name, statistic) for name in ("gradcam", "lime") for statistic in statistics)
    assert all(len(row["distances"]) == 5 for row in document["floors"] if row["stratum"] == "both right")
    for number in range(2, 7):
        for name in ("gradcam", "lime"):
            maps = load_attributions(kept(calibrated) / f"maps/validation/{name}/floor-digits-{number}.safetensors")
            assert maps.model == f"digits/{number}"
    manifest = json.loads((kept(calibrated) / "manifest.json").read_text())
    files = {str(path.relative_to(kept(calibrated))) for path in kept(calibrated).rglob("*") if path.is_file()}
    assert files == set(manifest) | {"manifest.json"}


def test_what_it_prints(attrail: Run, workplace, calibrated: mlflow.entities.Run) -> None:
    """Printed without a candidate in the file; the second time it is the kept one."""
    config = workplace.config(**cheap())
    config.write_text(config.read_text().replace('candidate = "7"\n', ""))
    before = len(workplace.calibrations())
    status, out, err = attrail("calibrate", "--config", config)
    assert status == 0, err
    assert len(workplace.calibrations()) == before
    assert f"MLflow run {calibrated.info.run_id}" in out
    assert "noise floor: 5 retrains" in out
    assert all(name in out for name in ("validation, both right", "gradcam", "lime", "rank_distance"))
    status, _, err = attrail("audit", "--config", config)
    assert (status, "no candidate: set registry.candidate" in err) == (2, True)


def test_audits_use_it_and_do_not_explain_its_versions_again(
    attrail: Run, workplace, calibrated: mlflow.entities.Run, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the candidate and the policy's thresholds are."""
    before = len(workplace.calibrations())
    for candidate, policy in (("7", ""), ("8", "alpha = 0.01\nmargins = {rank_distance = 0.1}")):
        found = audited(attrail, workplace, candidate, **cheap(policy=policy))
        assert len(workplace.calibrations()) == before
        assert found["calibration"]["run_id"] == calibrated.info.run_id
        assert explained(found["run"]["flow_run_id"]) == {"digits/1", f"digits/{candidate}"}
        assert f"noise floor of digits/1: as calibrated {found['calibration']['time']}" in caplog.text
        document = json.loads((kept(calibrated) / "calibration.json").read_text())
        assert found["calibration"]["digest"] == digest_of(document)
        assert [each["label"] for each in found["floor"]] == FLOOR
        assert set(found["slices"][0]["accuracy"]) == {"digits/1", f"digits/{candidate}", *FLOOR}
        run = mlflow.MlflowClient(workplace.tracking_uri).get_run(found["run_id"])
        shown = json.loads((kept(run) / "calibration.json").read_text())
        assert shown == {key: document[key] for key in shown}
        assert {"floors", "instruments", "models"} <= set(shown)


def test_a_kept_floor_judges_as_one_measured_in_the_audit(attrail: Run, workplace) -> None:
    """A slice of its own: the first audit calibrates, the second finds that."""
    before = len(workplace.calibrations())
    first, second = (audited(attrail, workplace, "8", **cheap(limit=11)) for _ in range(2))
    assert len(workplace.calibrations()) == before + 1
    assert explained(first["run"]["flow_run_id"]) == {"digits/1", "digits/8", *FLOOR}
    assert explained(second["run"]["flow_run_id"]) == {"digits/1", "digits/8"}
    for part in ("calibration", "measurements", "instruments", "verdict", "reason", "slices"):
        assert first[part] == second[part], part


@pytest.mark.parametrize(
    "change",
    [
        {"slice": "limit = 10"},
        {"explainers": CHEAP.format(evaluations=25)},
        {"floor": ["2", "3", "4", "5"]},
        {"registry": 'floor_source = "history"'},
        {"policy": "grid = 7\nseed = 1"},
    ],
    ids=str,
)
def test_what_it_depends_on_makes_a_new_one(
    attrail: Run, workplace, calibrated: mlflow.entities.Run, change: dict[str, object]
) -> None:
    before = {run.data.tags["attrail.calibration"] for run in workplace.calibrations()}
    status, _, err = attrail("calibrate", "--config", workplace.config(**(cheap() | change)))
    assert status == 0, err
    assert len({run.data.tags["attrail.calibration"] for run in workplace.calibrations()} - before) == 1


@pytest.fixture
def spoiled(attrail: Run, workplace) -> Iterator[Callable[[Callable[[Path], object]], str]]:
    """Does something to the file of a kept calibration, and says how an audit is refused then."""
    changes = cheap(limit=9, explainers=GRADCAM)
    attrail("calibrate", "--config", workplace.config(**changes))
    run = workplace.calibrations()[0]
    path = kept(run) / "calibration.json"
    whole = path.read_bytes()

    def spoil(change: Callable[[Path], object]) -> str:
        change(path)
        said = refused(attrail, workplace, **changes)
        assert run.info.run_id in said
        return said

    yield spoil
    path.write_bytes(whole)


def test_a_raised_floor_is_refused(spoiled: Callable[[Callable[[Path], object]], str]) -> None:
    """Who may write to the artifact store could let anything pass."""

    def raise_floor(path: Path) -> None:
        document = json.loads(path.read_text())
        for row in document["floors"]:
            row["distances"] = [10 * each for each in row["distances"]]
        path.write_text(json.dumps(document))

    assert "calibration.json is not the one that was kept there; delete the run to calibrate anew" in spoiled(
        raise_floor
    )


def test_a_floor_that_is_gone_is_refused(spoiled: Callable[[Callable[[Path], object]], str]) -> None:
    said = spoiled(Path.unlink)
    assert "calibration.json cannot be read" in said
    assert "delete the run to calibrate anew" in said


def test_where_the_function_stays_the_same_only_draws_may_move_maps(attrail: Run, workplace) -> None:
    """A copy passes against four explanations of the reference anew; a retrain declared as a copy does not."""
    copy = mlflow.MlflowClient(workplace.tracking_uri).copy_model_version("models:/digits/1", "exported").version
    changes = cheap(limit=32, registry='change = "same-function"', floor=[])
    same = audited(attrail, workplace, f"models:/exported/{copy}", **changes)
    assert (same["verdict"], same["calibration"]["source"]) == ("PASS", "repeats"), same["reason"]
    for row in same["measurements"]:
        if row["primary"]:
            assert row["floor_tier"] == "B"
            assert len(row["floor_distances"]) == 4
            assert (max(row["floor_distances"]) > 0) is (row["explainer"] == "lime")
            assert row["value"] == 0
    other = audited(attrail, workplace, "7", **changes)
    assert other["verdict"] == "DRIFT", other["reason"]
    assert other["calibration"] == same["calibration"]
    assert other["floor"] == []


@pytest.mark.parametrize(
    ("source", "tier", "verdict"), [("surrogates", "D", "INCONCLUSIVE"), ("history", "C", "DRIFT")]
)
def test_surrogates_never_decide(attrail: Run, workplace, source: str, tier: str, verdict: str) -> None:
    changes = cheap(limit=32, explainers=GRADCAM, registry=f'floor_source = "{source}"')
    found = audited(attrail, workplace, "8", **changes)
    assert found["verdict"] == verdict, found["reason"]
    assert {row["floor_tier"] for row in found["measurements"] if row["primary"]} == {tier}
    assert ("against surrogates it would be flagged" in found["reason"]) is (source == "surrogates")


def test_surrogates_decide_where_their_factor_may_and_record_report_and_terminal_say_so(
    attrail: Run, workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"log_mean": 0.0, "log_sd": 0.1, "freedom": 30.0, "lowest": 0.8, "highest": 1.2, "decides": True}
    names = [name for name in statistic_names() if make_statistic(name).primary]
    place = {"source": "late-checkpoints", "change": "retrain"}
    rows = [{"explainers": which, "statistic": each} for which in ("each", "together") for each in names]
    monkeypatch.setattr(factors, "_rows", lambda: tuple(facts | place | each for each in rows))
    config = workplace.config(**cheap(limit=32, explainers=GRADCAM, registry='floor_source = "late-checkpoints"'))
    result = workplace.folder / "surrogates.json"
    status, out, err = attrail("audit", "--config", config, "--candidate", "8", "--json", result)
    assert status == 1, err
    told = "the limits stand on 5 late checkpoints, honest versions of the zoo move 1 to 1 times as far as such"
    record = json.loads(result.read_text())
    report = (kept(mlflow.get_run(record["run_id"])) / "report.html").read_text()
    for each in (" ".join(out.split()), record["reason"], report):
        assert told in each
    assert (record["calibration"]["source"], record["verdict"]) == ("late-checkpoints", "DRIFT")
    assert {row["floor_tier"] for row in record["measurements"] if row["primary"]} == {"D"}


def test_another_architecture_is_judged_by_margins_and_noise_that_says_no_drift(attrail: Run, workplace) -> None:
    margins = "margins = {coherent_shift = 0.9, rank_distance = 1.5}"
    changes = cheap(limit=32, explainers=GRADCAM, registry='change = "architecture"', floor=[], policy=margins)
    found = audited(attrail, workplace, "7", **changes)
    assert found["verdict"] == "PASS", found["reason"]
    assert {row["floor_tier"] for row in found["measurements"]} == {"M"}
    wide = cheap(limit=32, explainers=GRADCAM, registry='change = "architecture"', floor=[])
    assert audited(attrail, workplace, "8", **wide)["verdict"] == "INCONCLUSIVE"


def test_a_failed_calibration_is_measured_anew(attrail: Run, workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the files arrive: nothing that an audit would take up."""
    changes = cheap(limit=8, explainers=GRADCAM)
    real = mlflow.MlflowClient.log_artifacts

    def half(self, run_id, folder, path=None):
        real(self, run_id, folder, path)
        shutil.rmtree(f"{self.get_run(run_id).info.artifact_uri}/{path}/maps")

    before = len(workplace.calibrations())
    with monkeypatch.context() as broken:
        broken.setattr(mlflow.MlflowClient, "log_artifacts", half)
        status, _, err = attrail("calibrate", "--config", workplace.config(**changes))
        assert (status, "did not arrive" in err) == (2, True)
    assert len(workplace.calibrations()) == before
    assert attrail("calibrate", "--config", workplace.config(**changes))[0] == 0
    assert len(workplace.calibrations()) == before + 1
