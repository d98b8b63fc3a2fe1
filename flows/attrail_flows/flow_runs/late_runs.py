"""Late runs: of the scheduled runs of a deployment that are due together, only the newest does the work.

After downtime of the workers, Prefect starts every run that was scheduled meanwhile. A deployment's limit with
CANCEL_NEW does not stop that herd here: the pool has room for one run, so the others are not refused a place but kept
waiting, and then begun. Nor would it keep the newest.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import ParamSpec, TypeVar
from uuid import UUID

from prefect import runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterNextScheduledStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled

P = ParamSpec("P")
R = TypeVar("R")


def newest_when_late(flow: Callable[P, R]) -> Callable[P, R]:
    """A flow's function that does nothing in a scheduled run when a later one of the same schedule is due as well.

    Such a run ends as Cancelled, and says which one does the work. Runs that somebody asked for do what they were
    asked, and so does a flow without a deployment.
    """

    @wraps(flow)
    def newest(*arguments: P.args, **named: P.kwargs) -> R:
        later = _later()
        if later is not None:
            told = f"left to {later.name}, which is due as well"
            return Cancelled(name="Overtaken", message=told)  # type: ignore[return-value]  # a state, to Prefect
        return flow(*arguments, **named)

    return newest


def _later() -> FlowRun | None:
    """The newest run of this run's schedule that is due, if it is a later one."""
    if not runtime.deployment.id:
        return None
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(UUID(str(runtime.flow_run.id)))
        due = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[UUID(str(runtime.deployment.id))]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED])),
            next_scheduled_start_time=FlowRunFilterNextScheduledStartTime.model_validate(
                {"before_": datetime.now(UTC)}
            ),
        )
        found = [each for each in client.read_flow_runs(flow_run_filter=due) if _follows(each, own)]
    return max(found, key=_due, default=None)


def _follows(run: FlowRun, own: FlowRun) -> bool:
    scheduled = run.auto_scheduled and own.auto_scheduled
    return scheduled and run.parameters == own.parameters and _due(run) > _due(own)


def _due(run: FlowRun) -> datetime:
    return run.expected_start_time or datetime.min.replace(tzinfo=UTC)
