"""Runs whose process is gone, and that Prefect's server still takes for running: they are ended as Crashed.

A worker that is killed, or whose machine fails, reports nothing, and its run would keep the pool's slot for ever. Every
run sends heartbeats; an automation of Prefect's server ends those that fall silent, as Prefect's guide "Detect zombie
flows" (docs.prefect.io/v3/advanced/detect-zombie-flows) proposes. Beyond the guide it also watches over runs whose
process never began. A run that is suspended says so, and nothing is expected of it after that.
"""

from datetime import timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Automation, AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

NAME = "attrail-silent-runs"
SILENCE = timedelta(minutes=5)  # five heartbeats of a minute, the frequency in compose.yaml
RUN = "prefect.flow-run."


def wanted() -> AutomationCore:
    """The automation: a run of attrail's that said nothing for SILENCE has crashed."""
    trigger = EventTrigger(
        posture=Posture.Proactive,
        after={f"{RUN}Pending", f"{RUN}Running", f"{RUN}heartbeat"},
        expect={f"{RUN}*"},
        match=ResourceSpecification({"prefect.resource.id": f"{RUN}*"}),
        match_related=ResourceSpecification(
            {"prefect.resource.id": "prefect.tag.attrail", "prefect.resource.role": "tag"}
        ),
        for_each={"prefect.resource.id"},
        threshold=1,
        within=SILENCE,
    )
    minutes = int(SILENCE.total_seconds() // 60)
    message = f"its process said nothing for {minutes} minutes"
    crashed = ChangeFlowRunState(name=None, state=StateType.CRASHED, message=message, force=False)
    return AutomationCore(
        name=NAME,
        description="Ends the runs of attrail's flows whose process is gone, so that they hold up nobody.",
        trigger=trigger,
        actions=[crashed],
    )


def settle_automation(client: SyncPrefectClient, *, dry_run: bool) -> list[str]:
    """Make the automation at the server what it is to be; what that changed. One that is switched off stays off."""
    found = client.read_automations_by_name(NAME)
    if not found:
        if not dry_run:
            client.create_automation(wanted())
        return [f"new       automation {NAME}"]
    if _stated(found[0]) == _stated(wanted()):
        return [f"unchanged automation {NAME}"]
    if not dry_run:
        client.update_automation(found[0].id, wanted().model_copy(update={"enabled": found[0].enabled}))
    return [f"changed   automation {NAME}"]


def _stated(automation: AutomationCore | Automation) -> dict[str, Any]:
    """What is compared: everything but who made it, when, and whether it is switched on; sets in one order."""
    return AutomationCore.model_validate(automation.model_dump()).model_dump(exclude={"enabled", "owner_resource"})
