"""What Prefect is told of an audit: the verdict and its measurements, and an event when evidence drifted."""

from collections.abc import Mapping
from typing import Any

from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.events import emit_event

from attrail_flows.audit_steps.summary import lines_beside
from attrail_flows.flow_runs.artifact_key import artifact_key
from attrail_mlflow.runs.audit_run import ROOT
from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.verdict.findings import Verdict


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
            payload={
                "reason": kept.report.reason,
                "next_step": kept.report.next_step,
                "run_id": kept.run["run_id"],
            },
        )


def _markdown(document: Mapping[str, Any]) -> str:
    lines = [
        f"# {document['verdict']}: {document['candidate']['label']} against {document['reference']['label']}",
        "",
        document["reason"],
        "",
        *([f"Next: {document['next_step']}", ""] if document["next_step"] else []),
        *(f"- {line}" for line in lines_beside(document)),
        "",
        f"MLflow run `{document['run_id']}`, artifacts under `{ROOT}/`.",
        "",
        "| slice | explainer | evidence | distance | limit | verdict | decides |",
        "|---|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(_markdown_row(row) for row in document["judged"])])


def _markdown_row(row: Mapping[str, Any]) -> str:
    cells = [row[name] for name in ("slice", "explainer", "what", "distance", "limit", "verdict")]
    return "| " + " | ".join([*(each.replace("|", "\\|") for each in cells), "yes" if row["decides"] else ""]) + " |"
