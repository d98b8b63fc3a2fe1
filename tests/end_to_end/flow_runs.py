"""Runs of flows, asked of the services's Prefect server over HTTP as anybody can: begun, looked at, waited for."""

import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import httpx
from services import Services

PATIENCE = 300.0  # seconds until a run must be where it is waited for
OVER = ("FAILED", "CRASHED", "CANCELLED", "COMPLETED")


def deployment(services: Services, name: str) -> dict[str, Any]:
    """A deployment by FLOW/NAME."""
    return dict(httpx.get(f"{services.prefect}/deployments/name/{name}", timeout=30).raise_for_status().json())


def begin(services: Services, name: str, **parameters: object) -> str:
    """Ask for a run of the deployment FLOW/NAME, as the form does, with the parameters that it shows; the run's id."""
    found = deployment(services, name)
    path = f"{services.prefect}/deployments/{found['id']}/create_flow_run"
    asked = {"parameters": found["parameters"] | parameters}
    return str(httpx.post(path, json=asked, timeout=30).raise_for_status().json()["id"])


def runs(services: Services, flow: str, *, begun: bool = True) -> list[dict[str, Any]]:
    """All runs of a flow that have begun, the first one first; with those that are still to begin if told so."""
    asked: dict[str, Any] = {"flows": {"name": {"any_": [flow]}}, "sort": "START_TIME_ASC"}
    if begun:
        asked["flow_runs"] = {"start_time": {"is_null_": False}}
    return list(httpx.post(f"{services.prefect}/flow_runs/filter", json=asked, timeout=30).raise_for_status().json())


def state(services: Services, run: str) -> dict[str, Any]:
    return dict(httpx.get(f"{services.prefect}/flow_runs/{run}", timeout=30).raise_for_status().json()["state"])


def await_state(services: Services, run: str, wanted: str) -> dict[str, Any]:
    """Wait until a run is in a state of this type; the state. Fails when the run is over otherwise."""
    deadline = time.monotonic() + PATIENCE
    while (found := state(services, run))["type"] != wanted:
        told = (found["type"], found["message"], (services.folder / "worker.log").read_text()[-4000:])
        assert found["type"] not in OVER, told
        assert time.monotonic() < deadline, told
        time.sleep(0.3)
    return found


def spans(services: Services, run: str) -> list[tuple[datetime, datetime]]:
    """When a run's processes were at work: from every time it was running to the state after that."""
    path = f"{services.prefect}/flow_run_states/"
    history = httpx.get(path, params={"flow_run_id": run}, timeout=30).raise_for_status().json()
    history.sort(key=lambda each: each["timestamp"])
    following: list[Mapping[str, Any]] = history[1:]
    return [
        (datetime.fromisoformat(each["timestamp"]), datetime.fromisoformat(after["timestamp"]))
        for each, after in zip(history, following, strict=False)
        if each["type"] == "RUNNING"
    ]
