"""The promotion flow: audit, let a person sign off, ask the gate.

While a person thinks, nothing runs: the flow's run is suspended, and begins anew from the top when it is resumed. The
audit's outcome and the journal's record are then taken from results that Prefect kept; where those are lost, the audit
is made again, with all attributions taken from MLflow. Without a deployment nothing can be suspended, and the process
waits.
"""

import logging
from collections.abc import Mapping
from typing import Any, Literal

from prefect import flow, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.flow_runs import pause_flow_run, suspend_flow_run
from prefect.states import Completed, Failed

from attrail_explainers.errors import ConfigError, GateRefusal
from attrail_flows.audit import audit
from attrail_flows.configuration import AuditConfig
from attrail_flows.flow_runs.retries import DELAYS, RETRIES, may_help
from attrail_flows.sign_off import form
from attrail_flows.sign_off.form import SignOff
from attrail_flows.sign_off.terminal import ask_here
from attrail_mlflow.gate.client import Candidate
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.trail.attestation import Trail

HOURS = 72

logger = logging.getLogger("attrail.promote")


def run_name() -> str:
    """The flow run's name: model, candidate and the alias it is to have."""
    parameters = runtime.flow_run.parameters
    section = parameters["config"].with_candidate(parameters["candidate"]).registry
    return f"promote-{section.model}-{section.candidate}-to-{parameters['alias']}"


def once(context: TaskRunContext, parameters: Mapping[str, Any]) -> str:
    """The key of a result: one for each task in a flow's run, however often the run begins anew."""
    return f"{context.task.name.replace(' ', '-')}-{context.task_run.flow_run_id}"


@task(name="audit once", cache_key_fn=once, persist_result=True, result_serializer="json")
def audit_once(config: AuditConfig) -> dict[str, Any]:
    """The audit's facts that a person and the gate need."""
    document = audit(config)
    facts = ("candidate", "reference", "verdict", "reason", "run_id", "report_location")
    return {name: document[name] for name in facts}


@task(name="note sign-off", cache_key_fn=once, persist_result=True, result_serializer="json")
def note_sign_off(answer: SignOff, document: Mapping[str, Any], alias: str) -> dict[str, Any]:
    """Write the decision into the journal."""
    return form.note(Trail.from_environment(), answer, document, alias, str(runtime.flow_run.id or ""))


@task(name="gate", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def ask_gate(config: AuditConfig, label: str, alias: str) -> None:
    """Ask the server to set the alias; GateRefusal with its reasons when the evidence does not let it."""
    Candidate.find(Registry(config.registry.tracking_uri), f"models:/{label}").promote(alias)


@flow(
    name="attrail-promote",
    flow_run_name=run_name,
    validate_parameters=True,
    persist_result=True,
    result_serializer="json",
)
def promote(
    config: AuditConfig,
    candidate: str | None = None,
    alias: str = "champion",
    ask: Literal["form", "terminal", "nobody"] = "form",
    hours: int = HOURS,
) -> State[Any]:
    """Audit a version, let a person sign off, and promote it through the gate.

    Args:
        config: What ``attrail.toml`` holds.
        candidate: Alias, version number or models:/ URI; the configuration's candidate when empty.
        alias: The alias that the version is to have.
        ask: Who is asked before the gate is: whoever fills in Prefect's form or uses ``attrail signoff``, whoever sits
            at the terminal where the flow runs, or nobody.
        hours: How long the form waits for the person; the run fails after that.

    Returns:
        Who decided what, and whether the version has the alias. The run fails when it has not.
    """
    logging.getLogger("attrail").setLevel(logging.INFO)
    if ask == "terminal" and runtime.deployment.id:
        raise ConfigError("a deployment's run has no terminal to ask at: give ask = 'form' or 'nobody'")
    document = audit_once(config.with_candidate(candidate))
    label, found = document["candidate"]["label"], {"verdict": document["verdict"], "run_id": document["run_id"]}
    if ask != "nobody":
        question = form.question(document, alias, Registry(config.registry.tracking_uri).shown)
        answer = ask_here(question) if ask == "terminal" else wait_for_sign_off(question, hours)
        found |= note_sign_off(answer, document, alias)
        if answer.decision == "reject":
            return Failed(name="Rejected", message=f"{answer.by} rejected {label}: {answer.why}", data=found)
    try:
        ask_gate(config, label, alias)
    except GateRefusal as refusal:
        return Failed(name="Refused", message=f"the gate refused {label}: {refusal}", data=found)
    return Completed(name="Promoted", message=f"{label} is {alias}", data=found | {"alias": alias})


def wait_for_sign_off(question: str, hours: int) -> SignOff:
    """The answer of a person, who sees ``question`` (markdown) above the form."""
    asked = SignOff.with_initial_data(description=question)
    logger.info("waiting for a sign-off: fill in the form, or use attrail signoff %s", runtime.flow_run.id)
    wait = suspend_flow_run if runtime.deployment.id else pause_flow_run
    answer: SignOff = wait(wait_for_input=asked, timeout=hours * 3600, key=form.KEY)
    return answer
