"""Sign-off: the question a person is asked before a version is promoted, and where the answer is written down.

Prefect keeps no identity with an answer, so ``by`` is what the person says; the record of it in the journal is signed
by the flow's key and names the audit, the version and the flow's run. An approval lets the gate decide; it overrules
nothing.
"""

from collections.abc import Mapping
from typing import Any, Literal

from prefect.input import RunInput
from pydantic import Field

from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.trail.attestation import Trail

KEY = "attrail-sign-off"


class SignOff(RunInput):
    """The form that Prefect shows."""

    decision: Literal["approve", "reject"] = Field(description="Whether the version may go on to the gate.")
    by: str = Field(min_length=3, max_length=200, description="Who decides: a name that can be asked later.")
    why: str = Field(min_length=3, max_length=2000, description="What was looked at, and why it is enough or not.")


def question(document: Mapping[str, Any], alias: str, registry: str) -> str:
    """What the form says above its fields: the verdict, and where the report is; a link where MLflow is a server."""
    place, run_id = document["report_location"], document["run_id"]
    report = f"[{place}]({registry.rstrip('/')}/#/runs/{run_id})" if registry.startswith("http") else place
    candidate, reference = document["candidate"]["label"], document["reference"]["label"]
    return (
        f"### May {candidate} become {alias}?\n\n"
        f"**{document['verdict']}** against {reference}: {document['reason']}\n\n"
        f"Report: {report} (MLflow run `{run_id}`)\n\n"
        "An approval lets the gate decide on the signed evidence; it overrules nothing."
    )


def note(trail: Trail, answer: SignOff, document: Mapping[str, Any], alias: str, flow_run_id: str) -> dict[str, Any]:
    """Write the decision into the journal, if there is one, and return what was written."""
    body = {
        "decision": answer.decision,
        "by": answer.by,
        "why": answer.why,
        "alias": alias,
        "run_id": document["run_id"],
        "model": document["candidate"]["label"],
        "verdict": document["verdict"],
        "flow_run_id": flow_run_id,
    }
    trail.note(Event.SIGN_OFF, body)
    return body
