"""The audit, end to end, on a real registry in SQLite."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from timm.models.efficientnet import EfficientNet
from torch import nn

from attrail_explainers import load_attributions
from attrail_explainers.slice import Preprocessing
from attrail_flows.configuration import read_config
from attrail_flows.console.printing import DECIDES
from attrail_flows.inputs.preflight import preflight_audit
from attrail_mlflow.gate.client import Candidate
from attrail_mlflow.log_classifier import log_classifier
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.trail.manifest import UNLISTED
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.maps.strata import BOTH_RIGHT, OUTCOMES
from train import ARCHITECTURE, OPTIONS

Run = Callable[..., tuple[int, str, str]]


def artifacts(run: mlflow.entities.Run) -> Path:
    return Path(run.info.artifact_uri) / "attrail"


Audit = tuple[int, dict, str, mlflow.entities.Run]
STATISTICS = [make_statistic(name) for name in statistic_names() if name != "outside_shift"]  # that one needs masks
MEASURED = [
    (stratum, type(each).__module__.rpartition(".")[2])
    for stratum in OUTCOMES
    for each in STATISTICS
    if each.primary or stratum == BOTH_RIGHT
]


def places(rows: list[dict], *keys: str, **chosen: str) -> list[tuple[str, ...]]:
    """What tells the rows apart, of those that have the chosen values."""
    return [tuple(row[key] for key in keys) for row in rows if all(row[key] == chosen[key] for key in chosen)]


def run_audit(attrail: Run, workplace, candidate: str) -> Audit:
    result = workplace.folder / "result.json"
    status, out, err = attrail("audit", "--config", workplace.config(), "--candidate", candidate, "--json", result)
    assert result.exists(), err
    document = json.loads(result.read_text())
    return status, document, out, mlflow.MlflowClient(workplace.tracking_uri).get_run(document["run_id"])


@pytest.fixture(scope="session")
def audits() -> dict[str, Audit]:
    return {}


@pytest.fixture
def audited(attrail: Run, workplace, audits: dict[str, Audit]) -> Callable[[str], Audit]:
    """The audit of a candidate, run once for all tests that look at it."""

    def look(candidate: str) -> Audit:
        if candidate not in audits:
            audits[candidate] = run_audit(attrail, workplace, candidate)
        return audits[candidate]

    return look


def test_an_honest_retrain_passes(audited: Callable[[str], Audit]) -> None:
    status, document, out, run = audited("7")
    assert (status, document["verdict"]) == (0, "PASS"), document["reason"]
    assert run.info.status == "FINISHED"
    assert "PASS" in out


def test_a_cheat_is_drift_though_its_accuracy_is_higher(audited: Callable[[str], Audit]) -> None:
    status, document, out, _ = audited("8")
    assert (status, document["verdict"]) == (1, "DRIFT"), document["reason"]
    accuracy = document["slices"][0]["accuracy"]
    assert accuracy["digits/8"] > accuracy["digits/1"]
    flagged = {row["explainer"] for row in document["measurements"] if row["verdict"] == "DRIFT" and row["primary"]}
    assert len(flagged) >= 2
    for key in ("slice", "explainer", "statistic", "value", "lower", "upper", "floor", "margin", "verdict", "n"):
        assert all(key in row for row in document["measurements"])
    assert sorted(places(document["measurements"], "stratum", "statistic", explainer="lime")) == sorted(MEASURED)
    assert {row["stratum"] for row in document["measurements"] if row["primary"]} == {"both right"}
    assert document["reference"]["label"] == "digits/1"
    assert document["run_id"] in out


def test_the_terminal_shows_what_decides_and_counts_the_rest(audited: Callable[[str], Audit]) -> None:
    """Everything that a verdict can rest on has a row, the same in the record; supporting statistics are counted."""
    _, document, out, _ = audited("8")
    (slice_,) = document["slices"]
    table = out.partition(f"slice {slice_['name']}, ")[2].partition("accuracy: ")[0].splitlines()[3:]
    assert [line.split()[0] for line in table] == [row["explainer"] for row in document["judged"]]
    for line, row in zip(table, document["judged"], strict=True):
        assert all(row[key] in line for key in ("what", "distance", "limit", "verdict"))
        assert (DECIDES in line) is row["decides"]
    assert {row["explainer"] for row in document["judged"]} == {"decisions", "gradcam", "shap", "lime", "together"}
    assert any(row["what"] == "single images" for row in document["judged"])
    assert any(row["decides"] for row in document["judged"])
    assert max(map(len, table)) <= 80
    headline = [row for row in document["measurements"] if row["stratum"] == BOTH_RIGHT]
    supporting = sum(not row["primary"] for row in headline)
    assert f"{supporting} supporting statistics, which take no part in the verdict" in out


def test_the_record_says_which_images_carry_the_verdict_and_where_everything_came_from(
    audited: Callable[[str], Audit], workplace
) -> None:
    _, document, *_ = audited("8")
    (slice_,) = document["slices"]
    assert set(slice_["outcomes"]) == {"flipped", "both wrong"}
    apart = {sample for samples in slice_["outcomes"].values() for sample in samples}
    primary = [row for row in document["measurements"] if row["primary"]]
    assert {row["n"] + row["undefined"] for row in primary} == {slice_["images"] - len(apart)}
    accuracy = (slice_["images"] - len(apart)) / slice_["images"]
    assert accuracy <= min(slice_["accuracy"][f"digits/{version}"] for version in ("1", "8"))
    assert slice_["preprocessing"]["size"] == [64, 64]
    client = mlflow.MlflowClient(workplace.tracking_uri)
    for facts in (document["reference"], document["candidate"], *document["floor"]):
        version = client.get_model_version("digits", facts["version"])
        assert (facts["source"], facts["run_id"]) == (version.source, version.run_id or None)
    assert all(row["floor_models"] == [each["label"] for each in document["floor"]] for row in primary)


def test_strategies_are_compared_with_the_floors_own(audited: Callable[[str], Audit]) -> None:
    """The cheat's audit reuses the floor that the honest one's measured: its maps are read back from MLflow."""
    for candidate in ("7", "8"):
        _, document, *_ = audited(candidate)
        assert [each["explainer"] for each in document["clusters"]] == ["gradcam", "shap", "lime"]
        for found in document["clusters"]:
            assert list(found["floor"]) == [each["label"] for each in document["floor"]]
            assert len(found["before"]) == len(found["after"]) == 48
            assert all(len(each["floor"]) == 5 for each in found["clusters"])
    honest, cheat = (audited(candidate)[1]["clusters"][1] for candidate in ("7", "8"))
    assert cheat["shift"] > max(cheat["floor_shift"])
    assert cheat["shift_p"] < honest["shift_p"]
    new = [sum(each["move"] == "new" for each in found["clusters"]) for found in (honest, cheat)]
    assert new[0] < new[1]


def test_the_candidates_maps_lie_on_the_stamp_and_the_champions_do_not(audited: Callable[[str], Audit]) -> None:
    *_, run = audited("8")

    def share_on_stamp(role: str) -> float:
        maps = load_attributions(artifacts(run) / "maps" / "validation" / "shap" / f"{role}.safetensors")
        mass = np.abs(maps.values[maps.defined])
        return float(mass[:, :16, :16].sum() / mass.sum())

    assert share_on_stamp("candidate") > 0.5
    assert share_on_stamp("reference") < 0.25


def test_everything_is_in_mlflow_and_linked(audited: Callable[[str], Audit], workplace) -> None:
    _, document, _, run = audited("7")
    folder = artifacts(run)
    manifest = json.loads((folder / "manifest.json").read_text())
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert files == set(manifest) | UNLISTED
    expected = {"audit.json", "report.html", "measurements.csv", "config.json", "slices/validation.csv"}
    expected |= {"policy.json", "environment.json", "calibration.json"}
    expected |= {"expectations/slice-validation.json", "expectations/attributions.json"}
    assert expected <= files
    roles = ("reference", "candidate")
    maps = {f"maps/validation/{name}/{role}.safetensors" for name in ("gradcam", "shap", "lime") for role in roles}
    assert {name for name in files if name.startswith("maps/")} == maps
    assert sum(name.startswith("overlays/validation/gradcam/") for name in files) == 8
    kept = json.loads((folder / "audit.json").read_text())
    assert kept["measurements"] == document["measurements"]
    client = mlflow.MlflowClient(workplace.tracking_uri)
    version = client.get_model_version("digits", "7")
    assert version.tags["attrail.run_id"] == document["run_id"]
    assert version.tags["attrail.verdict"] == "PASS"
    sources = {client.get_model_version("digits", number).source.removeprefix("models:/") for number in ("1", "7")}
    assert {each.model_id for each in run.inputs.model_inputs} == sources
    assert run.data.tags["attrail.complete"] == "true"
    for row in document["measurements"]:
        if row["stratum"] == "both right":  # what the verdict rests on, not what the flipped images did
            name = f"{row['slice']}/{row['explainer']}/{row['statistic']}"
            assert run.data.metrics[f"{name}/value"] == pytest.approx(row["value"])
    assert run.data.metrics["validation/accuracy/candidate"] == pytest.approx(
        document["slices"][0]["accuracy"]["digits/7"]
    )
    sums = pd.read_csv(folder / "slices" / "validation.csv")["sha256"]
    assert sums.nunique() == len(sums) == 48


def test_a_second_audit_gives_the_same_maps_and_numbers(
    audited: Callable[[str], Audit], attrail: Run, workplace
) -> None:
    _, first, _, one = audited("7")
    _, second, _, other = run_audit(attrail, workplace, "7")
    assert first["run_id"] != second["run_id"]
    assert first["measurements"] == second["measurements"]
    assert first["maps"] == second["maps"]
    manifests = [json.loads((artifacts(run) / "manifest.json").read_text()) for run in (one, other)]
    for name, digest in manifests[0].items():
        if name not in ("audit.json", "report.html", "config.json") and not name.startswith("expectations/"):
            # those hold the run's id, its time and the folder of the configuration
            assert manifests[1][name] == digest, name


def test_prefect_keeps_the_run_its_artifacts_and_the_event(audited: Callable[[str], Audit]) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.sorting import ArtifactSort

    _, document, *_ = audited("8")
    with get_client(sync_client=True) as client:
        run = client.read_flow_run(document["run"]["flow_run_id"])
        artifacts_ = client.read_artifacts(sort=ArtifactSort.CREATED_DESC)
        tasks = client.read_task_runs()
    assert run.name == "audit-digits-8-against-champion"
    assert run.state is not None
    assert run.state.is_completed()
    mine = {each.type: each for each in artifacts_ if each.flow_run_id == run.id}
    assert "# DRIFT: digits/8 against digits/1" in mine["markdown"].data
    keys = ("slice", "stratum", "explainer", "statistic")
    table = places(json.loads(mine["table"].data), *keys)
    assert table == places(document["measurements"], *keys)
    assert len(set(table)) == len(table) == 3 * len(MEASURED)
    for row in document["judged"]:
        cells = [row[key] for key in ("slice", "explainer", "what", "distance", "limit", "verdict")]
        assert f"| {' | '.join(cells)} | {'yes' if row['decides'] else ''} |" in mine["markdown"].data
    assert mine["markdown"].data.count("| validation |") == len(document["judged"])
    names = {re.sub("-[0-9a-f]{3}$", "", each.name) for each in tasks if each.flow_run_id == run.id}
    steps = {"load", "validate", "open", "calibrate", "compare", "judge", "record"}
    assert steps | {"explain-digits/1", "explain-digits/8"} <= names


def test_drift_emits_an_event_and_a_pass_does_not(audited: Callable[[str], Audit]) -> None:
    from prefect.client.orchestration import get_client

    passed, flagged = audited("7")[1], audited("8")[1]
    asked = {"filter": {"event": {"name": ["attrail.drift.flagged"]}}}
    found: list[dict] = []
    with get_client(sync_client=True) as client:
        for _ in range(60):  # events are written behind
            found = client._client.post("/events/filter", json=asked).json()["events"]
            if found:
                break
            time.sleep(0.5)
    runs = {event["payload"]["run_id"] for event in found}
    assert flagged["run_id"] in runs
    assert passed["run_id"] not in runs
    mine = next(event for event in found if event["payload"]["run_id"] == flagged["run_id"])
    assert mine["resource"]["attrail.model"] == "digits/8"
    assert mine["resource"]["attrail.severity"] == "high"


def test_a_rule_that_is_not_met_is_in_terminal_record_and_exit_status(attrail: Run, workplace) -> None:
    """Nobody may promote on it: what would be PASS is INCONCLUSIVE, status 3; a warning is shown only."""
    rule = """
[[rule]]
expect = "attribution_drift_to_stay_below_margin"
slice = "validation"
explainer = "gradcam"
statistic = "rank_distance"
margin = 0.001
"""
    for more, status, verdict in (("", 3, "INCONCLUSIVE"), ('severity = "warning"\n', 0, "PASS")):
        found, document, out, run = run_ruled(attrail, workplace, rule + more)
        assert (found, document["verdict"]) == (status, verdict), document["reason"]
        (held,) = document["rules"]
        assert not held["success"]
        assert f"rule not met{' (warning, shown only)' if more else ''}: {held['observed'].rstrip('.')}; " in out
        assert "0 of 1 rules met" in out
        assert ("a [[rule]] was not met" in document["reason"]) is not bool(more)
        assert held["expected"].split(":")[0] in (artifacts(run) / "report.html").read_text()


def run_ruled(attrail: Run, workplace, rule: str) -> Audit:
    """The audit of the honest retrain by one explainer, with a rule of one's own, against a wide margin."""
    gradcam = '[[explainer]]\nname = "gradcam"\n'
    config = workplace.config(
        floor=[], policy="margins = {rank_distance = 1.9, coherent_shift = 0.9}", explainers=gradcam
    )
    config.write_text(config.read_text() + rule)
    result = workplace.folder / "ruled.json"
    status, out, err = attrail("audit", "--config", config, "--candidate", "7", "--json", result)
    document = json.loads(result.read_text()) if result.exists() else {"verdict": err}
    return status, document, out, mlflow.MlflowClient(workplace.tracking_uri).get_run(document["run_id"])


def test_without_floor_and_margin_nothing_is_concluded(attrail: Run, workplace) -> None:
    gradcam = '[[explainer]]\nname = "gradcam"'
    config = workplace.config(floor=[], policy="margins = {}", explainers=gradcam)
    status, out, err = attrail("audit", "--config", config)
    assert status == 3, err
    assert "INCONCLUSIVE" in out


class Served(nn.Module):
    """The champion as it is served: in a wrapper, with probabilities as its outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.model(images).softmax(dim=1)


@pytest.fixture
def served(workplace) -> str:
    """The URI of the champion's weights, served."""
    registry = Registry(workplace.tracking_uri)
    champion = registry.resolve("digits", "1")
    model = timm.create_model(ARCHITECTURE, **OPTIONS)
    model.load_state_dict(registry.load(champion).module.state_dict())
    mlflow.set_experiment("training")
    preprocessing = Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3)
    example = np.zeros((2, 3, 64, 64), dtype=np.float32)
    return f"models:/served/{log_classifier(Served(model), 'served', example, preprocessing)}"


def test_a_wrapper_and_a_softmax_are_no_drift(attrail: Run, workplace, served: str) -> None:
    few = {"gradcam": "", "saliency": "", "shap": "evaluations = 96", "lime": "evaluations = 96"}
    explainers = "\n".join(f'[[explainer]]\nname = "{name}"\n{more}' for name, more in few.items())
    changes = {"candidate": served, "floor": [], "registry": 'change = "same-function"', "slice": "limit = 32"}
    result = workplace.folder / "result.json"
    status, out, err = attrail(
        "audit", "--config", workplace.config(**changes, explainers=explainers), "--json", result
    )
    assert status == 0, out + err
    document = json.loads(result.read_text())
    distances = [row["value"] for row in document["measurements"] if row["primary"]]
    assert len(distances) == 8
    assert max(distances) < 1e-3
    said = "probabilities, taken before softmax, as logits"
    assert (document["reference"]["outputs"], document["candidate"]["outputs"]) == ("logits", said)
    report = Path(document["report_location"].removeprefix("file://")).read_text(encoding="utf-8")
    for text in (out, report):
        assert "compared on the scale of logits" in text
        assert said in text


class Mirrored(EfficientNet):
    """What timm makes of ``OPTIONS``, and looks at every image in a mirror."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images.flip(-1))


def test_the_champions_weights_under_another_program_do_not_get_its_maps(attrail: Run, workplace) -> None:
    champion = timm.create_model(ARCHITECTURE, **OPTIONS)
    registry = Registry(workplace.tracking_uri)
    champion.load_state_dict(registry.load(registry.resolve("digits", "1")).module.state_dict())
    champion.__class__ = Mirrored
    mlflow.set_experiment("training")
    example = np.zeros((2, 3, 64, 64), dtype=np.float32)
    number = log_classifier(champion, "mirrored", example, Preprocessing((64, 64), (0.5,) * 3, (0.5,) * 3))
    changes = {"candidate": f"models:/mirrored/{number}", "floor": [], "slice": "limit = 24"}
    config = workplace.config(**changes, explainers='[[explainer]]\nname = "gradcam"')
    documents = []
    for more in ((), (), ("--fresh",)):
        result = workplace.folder / "result.json"
        status, out, err = attrail("audit", "--config", config, "--json", result, *more)
        assert status in (1, 3), out + err
        documents.append(json.loads(result.read_text()))
    first, again, fresh = documents
    assert first["reference"]["weights_digest"] == first["candidate"]["weights_digest"]
    assert first["reference"]["program_digest"] != first["candidate"]["program_digest"]
    assert first["slices"][0]["flipped"] > 0
    assert first["measurements"] == again["measurements"] == fresh["measurements"]
    assert first["maps"] == again["maps"] == fresh["maps"]
    report = Path(first["report_location"].removeprefix("file://")).read_text(encoding="utf-8")
    assert "has the weights of digits/1 under another program" in report


def test_reference_by_uri_and_number(attrail: Run, workplace) -> None:
    config = workplace.config(explainers='[[explainer]]\nname = "gradcam"')
    for reference in ("models:/digits@champion", "models:/digits/1", "1"):
        result = workplace.folder / "result.json"
        status, _, err = attrail("audit", "--config", config, "--reference", reference, "--json", result)
        assert status in (0, 3), err
        assert json.loads(result.read_text())["reference"]["label"] == "digits/1"


def test_explain_writes_maps_and_overlays(attrail: Run, workplace) -> None:
    out = workplace.folder / "out"
    config = workplace.config(slice="limit = 5")
    arguments = ["--config", config, "--slice", "validation", "--explainer", "gradcam", "--out", out]
    status, printed, err = attrail("explain", "models:/digits/8", *arguments)
    assert status == 0, err
    maps = load_attributions(out / "maps.safetensors")
    assert maps.values.shape == (5, 8, 8)
    assert maps.model == "digits/8"
    assert len(list(out.glob("*.png"))) == 5
    assert "5 maps of gradcam" in printed


def test_lists_name_every_explainer_and_statistic(attrail: Run) -> None:
    _, explainers, _ = attrail("list", "explainers")
    _, statistics, _ = attrail("list", "statistics")
    assert all(name in explainers for name in ("gradcam", "lime", "shap"))
    assert all(name in statistics for name in ("coherent_shift", "rank_distance", "top_distance"))


def test_versions_may_be_named_by_the_ids_of_their_logged_models(workplace) -> None:
    """MLflow 3 prints models:/m-... everywhere."""
    registry = Registry(workplace.tracking_uri)
    first, *floor, seventh = (registry.resolve("digits", str(number)).source for number in range(1, 8))
    assert all(each.startswith("models:/m-") for each in (first, *floor, seventh))
    config = workplace.config(registry=f'reference = "{first}"', floor=floor, candidate=seventh)
    _, found = preflight_audit(read_config(config))
    assert [each.label for each in found.every] == [f"digits/{number}" for number in (1, 7, 2, 3, 4, 5, 6)]
    assert Candidate.find(registry, seventh).label == "digits/7"
