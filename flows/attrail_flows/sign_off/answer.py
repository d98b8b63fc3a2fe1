"""A flow's run that waits for sign-off, answered from outside."""

from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import SetStateStatus
from prefect.exceptions import ObjectNotFound

from attrail_explainers.errors import ConfigError, RegistryError
from attrail_flows.sign_off.form import KEY


def answer(flow_run: UUID, decision: str, by: str, why: str) -> str:
    """Resume a run with a decision; its name.

    Raises ConfigError when there is no such run, when it waits for no sign-off or when the form refuses the answer.
    """
    with get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(flow_run)
        except ObjectNotFound as error:
            raise ConfigError(f"there is no flow run {flow_run} at {client.api_url}") from error
        state = found.state
        keyset = state.state_details.run_input_keyset if state and state.is_paused() else None
        if state is None or not keyset or KEY not in keyset.get("response", ""):
            shown = state.name if state else "in no state"
            raise ConfigError(f"flow run {found.name} waits for no sign-off: it is {shown}")
        result = client.resume_flow_run(flow_run, run_input={"decision": decision, "by": by, "why": why})
    if result.status is SetStateStatus.REJECT:
        raise ConfigError(f"flow run {found.name} did not take the answer: {getattr(result.details, 'reason', '')}")
    if result.status is not SetStateStatus.ACCEPT:
        raise RegistryError(f"flow run {found.name} could not be resumed: {result.status.value}", transient=True)
    return found.name
