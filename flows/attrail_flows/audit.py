"""The audit flow: two versions of a registered model, the same images, one verdict, all evidence in MLflow."""

import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from attrail_explainers.slice import Preprocessing, Slice
from attrail_flows import calibration_steps, steps
from attrail_flows.artifact_key import artifact_key
from attrail_flows.calibration_steps import Calibrated
from attrail_flows.configuration import AuditConfig
from attrail_flows.progress import Clock, progress_of
from attrail_flows.retries import DELAYS, may_help
from attrail_flows.sharded import Explaining, explaining
from attrail_mlflow.audit_run import ROOT, AuditRun, finishing, open_run, translated
from attrail_mlflow.evidence import Evidence
from attrail_mlflow.policy_notice import post_policy
from attrail_mlflow.registry import RegisteredVersion, Registry
from attrail_monitoring import comparison
from attrail_monitoring.audit_record import AuditRecord, PolicyFacts
from attrail_monitoring.expectations import Validation
from attrail_monitoring.measurement import Measurement
from attrail_monitoring.moved import Displacement
from attrail_monitoring.policy import Policy
from attrail_monitoring.sequence import with_alarm
from attrail_monitoring.stratum import HEADLINES
from attrail_monitoring.verdict import DriftReport, Verdict

logger = logging.getLogger("attrail.audit")

# Tasks carry NO_CACHE: maps and models pass between them in memory, and hashing them as cache keys would be waste.


@task(name="load", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def load(config: AuditConfig) -> tuple[Registry, steps.ComparedVersions]:
    """Connect to MLflow and find every version."""
    registry = Registry(config.registry.tracking_uri)
    return registry, steps.resolve(registry, config)


@task(name="load floor", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def load_floor(config: AuditConfig) -> tuple[Registry, steps.Versions]:
    """Connect to MLflow and find the reference and its noise floor's versions."""
    registry = Registry(config.registry.tracking_uri)
    return registry, steps.resolve_floor(registry, config)


@task(name="validate", cache_policy=NO_CACHE)
def validate(config: AuditConfig, versions: steps.Versions) -> tuple[steps.Tables, tuple[Slice, ...]]:
    """Hold the slice tables against Great Expectations, then decode their images."""
    tables = steps.read_tables(config, versions.reference)
    preprocessing: Preprocessing = steps.preprocessing_of(config, versions.every)
    return tables, steps.load_slices(tables, preprocessing)


@task(
    name="explain",
    task_run_name="explain-{version.label}",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=may_help,
)
def explain(
    how: Explaining, version: RegisteredVersion, slices: Sequence[Slice], reference: steps.Explained | None
) -> steps.Explained:
    """Explain one version on every slice, shard by shard; what was kept before is not computed again."""
    maps = sum(len(each) for each in slices) * len(how.config.explainers)
    with progress_of(f"explain {version.label}", maps) as advance:
        return how.explain(version, slices, reference, advance)


@task(name="calibrate", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def find_floor(registry: Registry, config: AuditConfig, key: str) -> Calibrated | None:
    """The noise floor, where it was measured before."""
    return calibration_steps.find(registry, config, key)


@task(name="measure floor", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def measure_floor(
    registry: Registry,
    config: AuditConfig,
    slices: Sequence[Slice],
    reference: steps.Explained,
    floor: Sequence[steps.Explained],
    key: str,
) -> Calibrated:
    """Measure the noise floor and whether the explainers can measure, and keep both."""
    with progress_of("rehearse", calibration_steps.rehearsed(config, reference, floor, slices)) as advance:
        return calibration_steps.measure(registry, config, slices, reference, floor, key, advance)


@task(name="compare", cache_policy=NO_CACHE)
def compare(
    reference: steps.Explained, candidate: steps.Explained, calibrated: Calibrated, policy: Policy
) -> tuple[list[Measurement], list[Displacement], Validation]:
    """Validate the maps and measure how far they are apart."""
    return steps.measure_versions(reference, candidate, calibrated.calibration, policy)


@task(name="judge", cache_policy=NO_CACHE)
def judge(
    measurements: Sequence[Measurement],
    displacements: Sequence[Displacement],
    policy: Policy,
    calibrated: Calibrated,
) -> DriftReport:
    """Hold the measurements against the policy."""
    return comparison.judge(measurements, policy, calibrated.calibration.instruments, displacements)


@task(name="open", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def open_audit(
    registry: Registry, config: AuditConfig, versions: steps.ComparedVersions, policy: Policy
) -> tuple[AuditRun, PolicyFacts]:
    """Begin the audit's run, and keep the policy in it before anything is computed."""
    run = open_run(
        registry, config.registry.experiment, f"{versions.candidate.label} against {versions.reference.label}"
    )
    return run, post_policy(run, versions.candidate.name, asdict(policy), policy.digest)


@task(name="record", cache_policy=NO_CACHE, retries=2, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def record(run: AuditRun, versions: steps.ComparedVersions, evidence: Evidence) -> AuditRecord:
    """Keep all evidence in the audit's MLflow run."""
    with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
        facts = {"run_id": run.run_id, "time": datetime.now(UTC).isoformat(timespec="seconds")}
        facts |= {"flow_run_id": flow_run(), "tracking_uri": run.registry.shown}
        kept = replace(evidence.record, run=facts)
        replace(evidence, record=kept).write(Path(folder))
        with translated(run):
            run.keep(kept, Path(folder), versions.reference, versions.candidate)
    return kept


@flow(name="attrail-calibrate", validate_parameters=True)
def calibrate(config: AuditConfig) -> dict[str, Any]:
    """Measure the noise floor of the reference and keep it in MLflow, for every audit after it.

    Args:
        config: What ``attrail.toml`` holds; ``registry.candidate`` is not needed.

    Returns:
        What is known of the calibration, and its floors.
    """
    logging.getLogger("attrail").setLevel(logging.INFO)
    registry, versions = load_floor(config)
    _, slices = validate(config, versions)
    with explaining(registry, config, flow_run()) as how:
        reference = explain(how, versions.reference, slices, None)
        found = floor_of(how, versions, slices, reference)
    return found.calibration.document() | {"run_id": found.facts.run_id, "key": found.facts.key}


def flow_run() -> str:
    """The id of the flow's run."""
    return str(runtime.flow_run.id or "")


def run_name() -> str:
    """The flow run's name: model, candidate and reference."""
    section = runtime.flow_run.parameters["config"].registry
    return f"audit-{section.model}-{section.candidate}-against-{section.reference}"


@flow(name="attrail-audit", flow_run_name=run_name, validate_parameters=True)
def audit(config: AuditConfig) -> dict[str, Any]:
    """Compare a candidate's evidence with the reference's and keep the verdict in MLflow.

    Args:
        config: What ``attrail.toml`` holds: versions, slices, explainers and policy.

    Returns:
        The contents of audit.json (verdict, run_id, measurements, every digest) and the report's location.
    """
    logging.getLogger("attrail").setLevel(logging.INFO)
    policy = config.policy.value()
    registry, versions = load(config)
    tables, slices = validate(config, versions)
    run, posted = open_audit(registry, config, versions, policy)
    with finishing(run):
        with explaining(registry, config, flow_run(), run.run_id) as how:
            evidence = gather(how, versions, slices, tables)
        posted_record = replace(evidence.record, posted_policy=posted)
        kept = record(run, versions, replace(evidence, record=posted_record))
    announce(kept)
    return kept.document() | {"report_location": run.location("report.html")}


def gather(
    how: Explaining, versions: steps.ComparedVersions, slices: Sequence[Slice], tables: steps.Tables
) -> Evidence:
    """Explain, measure and judge: everything an audit keeps, before it is kept."""
    registry, config = how.registry, how.config
    policy = config.policy.value()
    reference = explain(how, versions.reference, slices, None)
    calibrated = floor_of(how, versions, slices, reference)
    candidate = explain(how, versions.candidate, slices, reference)
    calibration_steps.require_retrains(calibrated.facts.models, candidate)
    measurements, displacements, validation = compare(reference, candidate, calibrated, policy)
    report = judge(measurements, displacements, policy, calibrated)
    sequence = steps.continue_sequence(registry, config, report, reference, candidate)
    if sequence is not None:
        report = with_alarm(report, sequence, policy.alpha)
    found = (calibrated.calibration, calibrated.facts)
    facts = steps.audit_record(config, report, (reference, candidate), found, slices, tables)
    return Evidence(
        record=replace(facts, sequence=sequence.document() if sequence else None),
        slices=slices,
        tables=tables.tables,
        maps={"reference": reference.maps, "candidate": candidate.maps},
        validations=(*tables.validations, validation, *steps.hold_rules(config, report)),
        config=_shown_config(config, registry),
        settings=policy.settings,
        calibration=calibrated.calibration,
        sequence=sequence,
    )


def floor_of(
    how: Explaining, versions: steps.Versions, slices: Sequence[Slice], reference: steps.Explained
) -> Calibrated:
    """The reference's noise floor: as kept before, or measured now."""
    registry, config = how.registry, how.config
    key = calibration_steps.calibration_key(config, versions, slices, reference)
    found = find_floor(registry, config, key)
    if found is not None:
        logger.info("noise floor of %s: as calibrated %s in run %s", reference.version.label, *_when(found))
        return found
    clock = Clock(len(versions.floor) + 1, started=time.monotonic())
    floor = []
    for version in versions.floor:
        floor.append(explain(how, version, slices, reference))
        clock.step(f"explained {version.label}")
    calibration_steps.require_retrains([steps.model_facts(each, "floor") for each in floor], reference)
    return measure_floor(registry, config, slices, reference, floor, key)


def _when(found: Calibrated) -> tuple[str, str]:
    return found.facts.time, found.facts.run_id


def announce(kept: AuditRecord) -> None:
    """Show the verdict in Prefect, and emit ``attrail.drift.flagged`` when it is DRIFT."""
    document = kept.document()
    key = artifact_key(f"attrail-{kept.candidate.label}")
    create_markdown_artifact(markdown=_markdown(document), key=key, description="Attribution drift verdict")
    shown = (
        "slice",
        "explainer",
        "statistic",
        "stratum",
        "value",
        "lower",
        "upper",
        "floor",
        "margin",
        "verdict",
        "n",
        "undefined",
    )
    rows = [{name: row[name] for name in shown} for row in document["measurements"]]
    create_table_artifact(table=rows, key=f"{key}-measurements", description="Measurements behind the verdict")
    if kept.report.verdict is Verdict.DRIFT:
        name = kept.candidate.label.replace("/", ".")
        emit_event(
            event="attrail.drift.flagged",
            resource={
                "prefect.resource.id": f"attrail.model.{name}",
                "attrail.model": kept.candidate.label,
                "attrail.reference": kept.reference.label,
                "attrail.severity": "high",
            },
            related=[
                {"prefect.resource.id": f"mlflow.run.{kept.run['run_id']}", "prefect.resource.role": "mlflow-run"}
            ],
            payload={"reason": kept.report.reason, "run_id": kept.run["run_id"]},
        )


def _shown_config(config: AuditConfig, registry: Registry) -> dict[str, Any]:
    """The configuration for the record: no password in it."""
    document = config.model_dump(mode="json", by_alias=True)
    document["registry"]["tracking_uri"] = registry.shown
    return document


def _markdown(document: Mapping[str, Any]) -> str:
    lines = [
        f"# {document['verdict']}: {document['candidate']['label']} against {document['reference']['label']}",
        "",
        document["reason"],
        "",
        f"MLflow run `{document['run_id']}`, artifacts under `{ROOT}/`.",
        "",
        "| slice | images | explainer | statistic | value | interval | limit | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    shown = [row for row in document["measurements"] if row["stratum"] in HEADLINES or row["verdict"] == "DRIFT"]
    return "\n".join([*lines, *(_markdown_row(row) for row in shown)])


def _markdown_row(row: Mapping[str, Any]) -> str:
    cells = [row["slice"], row["stratum"], row["explainer"], row["statistic"], _shown(row["value"])]
    cells += [f"{_shown(row['lower'])} to {_shown(row['upper'])}", _shown(row["limit"]), row["verdict"]]
    return "| " + " | ".join(cells) + " |"


def _shown(number: float | None) -> str:
    return "-" if number is None else f"{number:.3f}"
