"""Late runs of a real Prefect server: the newest of a schedule does the work, those before it say so."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.schedules import CronSchedule
from prefect.client.schemas.sorting import FlowRunSort
from prefect.flow_engine import run_flow

from attrail_flows.flow_runs.late_runs import newest_when_late


@flow(name="counts-days")
@newest_when_late
def counts(day: int = 0) -> int:
    """Count a day.

    Args:
        day: Which one.
    """
    return day + 1


@pytest.fixture
def client(prefect_server: None) -> Iterator[SyncPrefectClient]:
    with get_client(sync_client=True) as found:
        yield found


@pytest.fixture
def hourly(client: SyncPrefectClient) -> UUID:
    """A deployment with a run that was to begin in each of the last three hours, as after downtime."""
    schedule = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 * * * *", timezone="Etc/UTC"))
    flow_id = client.create_flow_from_name(counts.name)
    found = client.create_deployment(flow_id=flow_id, name=f"hourly-{uuid4()}", schedules=[schedule])
    now = datetime.now(UTC)
    span = {"start_time": (now - timedelta(hours=3)).isoformat(), "end_time": now.isoformat()}
    client._client.post(f"/deployments/{found}/schedule", json=span).raise_for_status()
    return found


def due(client: SyncPrefectClient, deployment: UUID) -> list[FlowRun]:
    """The runs of a deployment that were to begin by now, the newest last."""
    asked = FlowRunFilter(
        deployment_id={"any_": [deployment]}, next_scheduled_start_time={"before_": datetime.now(UTC)}
    )
    return client.read_flow_runs(flow_run_filter=asked, sort=FlowRunSort.EXPECTED_START_TIME_ASC)


def ended(run: FlowRun) -> State:
    return run_flow(counts, flow_run=run, parameters=run.parameters, return_type="state")


def test_only_the_newest_of_late_runs_does_the_work(client: SyncPrefectClient, hourly: UUID) -> None:
    late = due(client, hourly)
    assert len(late) == 3
    first, second, newest = (ended(each) for each in late)
    for left in (first, second):
        assert (left.type.value, left.name) == ("CANCELLED", "Overtaken")
        assert left.message == f"left to {late[-1].name}, which is due as well"
    assert newest.is_completed()


def test_whoever_asked_for_a_run_gets_it(client: SyncPrefectClient, hourly: UUID) -> None:
    asked = client.create_flow_run_from_deployment(hourly, parameters={"day": 4})
    assert ended(asked).result() == 5
    assert len(due(client, hourly)) == 3, "and those of the schedule are still to come"


def test_what_was_asked_for_later_does_not_stand_in_for_the_schedule(client: SyncPrefectClient, hourly: UUID) -> None:
    newest = due(client, hourly)[-1]
    client.create_flow_run_from_deployment(hourly)
    assert ended(newest).is_completed()


def test_without_a_deployment_a_flow_does_its_work(client: SyncPrefectClient) -> None:
    assert counts(2) == 3
    assert counts.parameters.properties["day"]["description"] == "Which one."
    assert counts.parameters.properties["day"]["default"] == 0
