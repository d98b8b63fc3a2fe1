"""The audit flow: two versions of a registered model, the same images, one verdict, all evidence in MLflow."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from prefect import flow, runtime

from attrail_explainers.slice import Slice
from attrail_flows.audit_steps import calibration
from attrail_flows.audit_steps.artifacts import announce
from attrail_flows.audit_steps.judging import continue_sequence, hold_rules, rules_held
from attrail_flows.audit_steps.record import audit_record
from attrail_flows.audit_steps.tasks import compare, explain, flow_run, judge, load, open_audit, record, validate
from attrail_flows.calibrate import floor_of
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.session import ExplainSession, explaining
from attrail_flows.inputs.remarks import wide_limits
from attrail_flows.inputs.slices import Tables
from attrail_flows.inputs.versions import ComparedVersions
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.ending import finishing
from attrail_mlflow.runs.evidence_files import Evidence
from attrail_monitoring.verdict.sequence import with_alarm

logger = logging.getLogger("attrail.audit")


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
    policy = config.policy.to_policy()
    registry, versions = load(config)
    tables, slices = validate(config, versions)
    run, posted = open_audit(registry, config, versions, policy)
    with finishing(registry, run.run_id):
        with explaining(registry, config, flow_run(), run.run_id) as how:
            evidence = gather(how, versions, slices, tables)
        posted_record = replace(evidence.record, posted_policy=posted)
        kept = record(run, versions, replace(evidence, record=posted_record))
    announce(kept)
    return kept.document() | {"report_location": run.location("report.html")}


def gather(how: ExplainSession, versions: ComparedVersions, slices: Sequence[Slice], tables: Tables) -> Evidence:
    """Explain, measure and judge: everything an audit keeps, before it is kept."""
    registry, config = how.registry, how.config
    policy = config.policy.to_policy()
    reference = explain(how, versions.reference, slices, None)
    calibrated = floor_of(how, versions, slices, reference)
    candidate = explain(how, versions.candidate, slices, reference)
    calibration.require_retrains(calibrated.facts.models, candidate)
    measurements, displacements, validation = compare(reference, candidate, calibrated, policy)
    report = judge(measurements, displacements, config, calibrated, reference)
    sequence = continue_sequence(registry, config, report, reference, candidate)
    if sequence is not None:
        report = with_alarm(report, sequence, policy.alpha)
    report, rules = hold_rules(config, report)
    found = (calibrated.calibration, calibrated.facts)
    for each in wide_limits(report):
        logger.warning(each)
    facts = audit_record(config, report, (reference, candidate), found, slices, tables)
    return Evidence(
        record=replace(facts, sequence=sequence.document() if sequence else None, rules=rules_held(rules)),
        slices=slices,
        tables=tables.tables,
        maps={"reference": reference.maps, "candidate": candidate.maps},
        validations=(*tables.validations, validation, *rules),
        config=_shown_config(config, registry),
        settings=policy.settings,
        calibration=calibrated.calibration,
        sequence=sequence,
    )


def _shown_config(config: AuditConfig, registry: Registry) -> dict[str, Any]:
    """The configuration for the record: no password in it."""
    document = config.model_dump(mode="json", by_alias=True)
    document["registry"]["tracking_uri"] = registry.shown
    return document
