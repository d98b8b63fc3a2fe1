"""The automation against a real Prefect server, with a silence of seconds: who is ended as Crashed, and who is not."""

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore, EventTrigger
from prefect.states import Completed, Pending, Running, State, Suspended

from attrail_flows.deployment.zombie_runs import wanted

SILENCE = timedelta(seconds=10)  # the shortest that Prefect takes
Begin = Callable[..., UUID]


@flow
def nothing() -> None:
    """Nothing."""


@pytest.fixture
def begin(client: SyncPrefectClient) -> Begin:
    """A run of a deployment in these states, one after the other, that nobody works on."""
    flow_id = client.create_flow(nothing)
    deployment = client.create_deployment(flow_id=flow_id, name="silent")

    def run(*states: State, tag: str = "attrail") -> UUID:
        """Of a busy server that took its states too slowly, another one: between them it fell silent indeed."""
        while True:
            found = client.create_flow_run_from_deployment(deployment, tags=[tag])
            started = time.monotonic()
            for each in states:
                client.set_flow_run_state(found.id, each)
            if time.monotonic() - started < SILENCE.total_seconds() / 2:
                return found.id

    return run


def quick() -> AutomationCore:
    trigger = wanted().trigger
    assert isinstance(trigger, EventTrigger)
    return wanted().model_copy(update={"trigger": trigger.model_copy(update={"within": SILENCE})})


def test_who_falls_silent_has_crashed_and_who_waits_for_sign_off_has_not(
    client: SyncPrefectClient, begin: Begin
) -> None:
    client.create_automation(quick())
    time.sleep(3)  # until the server heeds it
    silent = [begin(Pending()), begin(Pending(), Running())]
    others = {
        begin(Pending(), Running(), Suspended(timeout_seconds=3600)): "PAUSED",
        begin(Pending(), Running(), Completed()): "COMPLETED",
        begin(Pending(), Running(), tag="somebody-else"): "RUNNING",
    }
    deadline = time.monotonic() + 120
    while not all(client.read_flow_run(each).state.is_crashed() for each in silent):
        assert time.monotonic() < deadline, [client.read_flow_run(each).state for each in silent]
        time.sleep(0.5)
    assert "said nothing for 5 minutes" in client.read_flow_run(silent[0]).state.message
    assert {each: client.read_flow_run(each).state.type.value for each in others} == others
