"""The work pool, and how many runs its workers have at once: Prefect's server counts them.

The limit belongs to the pool because a worker's own, ``prefect worker start --limit``, cannot be had: Prefect 3.8.8's
worker takes a slot in the name of the flow's run (``prefect/workers/base.py``, ``_submit_scheduled_flow_runs``) and
gives it back when the run's process is gone. For a run that is resumed before the process that suspended it has ended
it asks twice in one name. ``anyio.CapacityLimiter`` then raises a RuntimeError, nobody catches it, the worker ends.

The server counts runs that are pending or running. One that waits for sign-off is neither, and holds up nobody.
"""

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.exceptions import ObjectNotFound


def settle_pool(name: str, at_once: int, client: SyncPrefectClient, *, dry_run: bool) -> list[str]:
    """Make a pool of processes, or give the one that is there this limit; what that changed, line by line."""
    try:
        before = client.read_work_pool(name).concurrency_limit
    except ObjectNotFound:
        if not dry_run:
            client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=at_once))
        return [f"new       work pool {name}"]
    if before == at_once:
        return [f"unchanged work pool {name}"]
    if not dry_run:
        client.update_work_pool(name, WorkPoolUpdate(concurrency_limit=at_once))
    return [f"changed   work pool {name}", f"          at once: {before or 'any number'} -> {at_once}"]
