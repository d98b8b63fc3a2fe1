"""What Prefect knows of a flow run's tasks."""

import asyncio

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import TaskRun

PAGE = 200


def task_runs(flow_run: str) -> list[TaskRun]:
    """All task runs of a flow run."""
    return asyncio.run(_read(flow_run))


async def _read(flow_run: str) -> list[TaskRun]:
    await asyncio.sleep(5)  # the server takes events in behind
    found: list[TaskRun] = []
    async with get_client() as client:
        wanted = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run]))
        while True:
            page = await client.read_task_runs(flow_run_filter=wanted, limit=PAGE, offset=len(found))
            found += page
            if len(page) < PAGE:
                return found
