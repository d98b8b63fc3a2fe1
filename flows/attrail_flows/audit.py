"""The audit flow: two versions of a registered model, the same images, one verdict, all evidence in MLflow."""

import logging
from dataclasses import dataclass, replace
from typing import Any

from prefect import flow, runtime

from attrail_flows.audit_steps import calibration
from attrail_flows.audit_steps.artifacts import announce
from attrail_flows.audit_steps.calibration import Calibrated
from attrail_flows.audit_steps.judging import continue_sequence, hold_rules
from attrail_flows.audit_steps.record import BegunAudit, audit_record, shown_config
from attrail_flows.audit_steps.tasks import ask, compare, explain, flow_run, judge, load, open_audit, record, validate
from attrail_flows.calibrate import floor_of, has_floor, matched_floor_of
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained
from attrail_flows.engine.session import ExplainSession, explaining
from attrail_flows.inputs.remarks import wide_limits
from attrail_mlflow.runs.ending import finishing
from attrail_mlflow.runs.evidence_files import Evidence
from attrail_monitoring.expectations.inputs import Validation
from attrail_monitoring.verdict.findings import DriftReport, Verdict
from attrail_monitoring.verdict.looks import Look, planned_looks
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
    begun = BegunAudit(config, policy, versions, tables, slices, run, posted, flow_run())
    with finishing(registry, run.run_id):
        with explaining(registry, config, begun.flow_run, run.run_id) as session:
            asking = replace(begun, slices=ask(session, versions.reference, slices))
            evidence = gather(session, asking)
        record(run, versions, evidence)
    announce(evidence.record)
    return evidence.record.document() | {"report_location": run.location("report.html")}


def gather(session: ExplainSession, begun: BegunAudit) -> Evidence:
    """Look at more and more images until the audit knows: everything it keeps, before it is kept."""
    looks = planned_looks(begun.policy, max(each.image_count for each in begun.slices))
    for look in looks:
        seen = look_at(session, begun.at(look), look)
        if seen.report.verdict is not Verdict.INCONCLUSIVE:
            break
        if not look.last:
            logger.info("look %d of %d, %d images: %s", look.number, look.planned, look.images, seen.report.reason)
    return kept_of(session, seen)


@dataclass(frozen=True, eq=False)
class Seen:
    """What one look saw: the versions' evidence on its images, the floor, and the verdict."""

    begun: BegunAudit
    look: Look
    reference: Explained
    candidate: Explained
    calibrated: Calibrated
    report: DriftReport
    validation: Validation


def look_at(session: ExplainSession, begun: BegunAudit, look: Look) -> Seen:
    """Explain, measure and judge at one look."""
    config, policy, versions, slices = begun.config, begun.policy, begun.versions, begun.slices
    reference = explain(session, versions.reference, slices, None)
    known = floor_of(session, versions, slices, reference, policy.settings) if has_floor(config, versions) else None
    candidate = explain(session, versions.candidate, slices, reference)
    calibrated = known or matched_floor_of(session, slices, reference, candidate, policy.settings)
    if known is not None:
        calibration.require_retrains(known.facts.models, candidate)
    measured, validation = compare(reference, candidate, calibrated, policy)
    report = judge(measured, look, policy, config.registry.change, calibrated, reference)
    return Seen(begun, look, reference, candidate, calibrated, report, validation)


def kept_of(session: ExplainSession, seen: Seen) -> Evidence:
    """Everything an audit keeps of the look that was its last, with its sequence and its rules."""
    begun, reference, candidate, report = seen.begun, seen.reference, seen.candidate, seen.report
    config, policy = begun.config, begun.policy
    sequence = continue_sequence(session.registry, config, report, reference, candidate, policy.settings)
    if sequence is not None:
        report = with_alarm(report, sequence, policy)
    report, rules = hold_rules(config, report)
    for each in wide_limits(report):
        logger.warning(each)
    return Evidence(
        record=audit_record(begun, (reference, candidate), seen.calibrated, report, seen.look, sequence, rules),
        slices=begun.slices,
        tables=begun.tables.tables,
        maps={"reference": reference.maps, "candidate": candidate.maps},
        validations=(*begun.tables.validations, seen.validation, *rules),
        config=shown_config(config, session.registry),
        settings=policy.settings,
        calibration=seen.calibrated.calibration,
        sequence=sequence,
    )
