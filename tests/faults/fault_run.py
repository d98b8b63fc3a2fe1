"""One audit that is hit again and again, run again after each crash as a platform does, until it is complete."""

import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import mlflow
from kills import EARLY, LOST, SAID, Kill, flow_process, held, strike
from points import Point, begun_again, points
from restarted_services import RestartedServices

OVER = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
PATIENCE = 300.0  # seconds that one attempt may take
SILENCE = 20.0  # seconds after which a run without a process is given up; attrail-silent-runs waits for five minutes


@dataclass
class Hit:
    """A kill as it happened: ``during`` says what the audit had reached, ``attempt`` counts its runs from 1."""

    what: str
    during: str
    attempt: int
    time: float
    outcome: str = "the run went on"
    seconds: float = 0.0
    again: int = 0


@dataclass
class FaultRun:
    """An audit, its attempts (Prefect's run ids) and the kills it took."""

    candidate: str
    runner: str
    experiment: str
    kills: Sequence[Kill]
    attempts: list[str] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    hits: list[Hit] = field(default_factory=list)
    trace: list[Point] = field(default_factory=list)
    began: float = 0.0
    seconds: float = 0.0


def endure(services: RestartedServices, fault_run: FaultRun, draw: random.Random) -> FaultRun:
    """Run the audit until it is complete; every kill of the plan that comes due hits it."""
    first, fault_run.began = len(points(services.faults)), time.time()
    waiting = list(fault_run.kills)
    _attempt(services, fault_run)
    with contextlib.ExitStack() as holds:
        while True:
            kill = waiting[0] if waiting else None
            over = _awaited(services, fault_run, kill, first, holds)
            if over is None:
                waiting.pop(0)
                _hit(services, fault_run, kill, first, draw)
            holds.close()
            if over is not None and _ended(services, fault_run, over):
                break
    fault_run.trace = points(services.faults, first)
    fault_run.seconds = time.time() - fault_run.began
    ends = [each.time for each in fault_run.hits[1:]] + [time.time()]
    for hit, end in zip(fault_run.hits, ends, strict=False):
        hit.again = begun_again([each for each in fault_run.trace if each.time < end], hit.time)
        hit.seconds = time.time() - hit.time
    return fault_run


def _attempt(services: RestartedServices, fault_run: FaultRun) -> None:
    fault_run.attempts.append(services.begin_audit(fault_run.candidate, fault_run.experiment, fault_run.runner))


def _awaited(
    services: RestartedServices, fault_run: FaultRun, kill: Kill | None, first: int, holds: contextlib.ExitStack
) -> str | None:
    """None once the kill is due, or how the attempt ended before that."""
    seen, begun = len(points(services.faults, first)), time.monotonic()
    asked = alive = begun
    armed = False
    while time.monotonic() - begun < PATIENCE:
        new = points(services.faults, first + seen)
        if kill and kill.point and not armed and _count(kill, new) >= kill.count:
            holds.enter_context(held(services, kill.point))
            armed, seen, new = True, seen + len(new), []
        if kill and _due(kill, new, begun, armed) and flow_process(services) is not None:
            return None
        if time.monotonic() - asked > 1.0:
            asked = time.monotonic()
            state = _state(services, fault_run.attempts[-1])
            if state in OVER:
                return state
            if state != "RUNNING" or flow_process(services) is not None:
                alive = asked
            if asked - alive > SILENCE:
                return "LOST"
        time.sleep(0.1)
    return "STUCK"


def _due(kill: Kill, new: Sequence[Point], begun: float, armed: bool) -> bool:
    if kill.point is None:
        if kill.seconds < EARLY:
            return time.monotonic() - begun >= kill.seconds
        return bool(new) and time.time() - new[0].time >= kill.seconds
    return any(kill.passed(each.point) for each in new) or (armed and _count(kill, new) > 0)


def _count(kill: Kill, new: Sequence[Point]) -> int:
    return sum(each.point == kill.point for each in new)


def _state(services: RestartedServices, run: str) -> str | None:
    with contextlib.suppress(httpx.HTTPError):
        return str(
            httpx.get(f"{services.prefect}/flow_runs/{run}", timeout=5).raise_for_status().json()["state"]["type"]
        )
    return None


def _hit(services: RestartedServices, fault_run: FaultRun, kill: Kill, first: int, draw: random.Random) -> None:
    moment = time.time()
    process = flow_process(services)
    own = {process.pid, *(each.pid for each in process.children(recursive=True))} if process else set()
    reached = [each.point for each in points(services.faults, first) if each.pid in own]
    during = SAID[kill.point if kill.point in reached[-3:] else reached[-1] if reached else None]
    what = strike(services, kill.target, draw)
    fault_run.hits.append(Hit(what, during, len(fault_run.attempts), moment))
    services.say(f"kill -9 {what}, {during} ({fault_run.experiment}, attempt {len(fault_run.attempts)})")
    if kill.target in LOST:
        services.give_up(fault_run.attempts[-1])


def _ended(services: RestartedServices, fault_run: FaultRun, over: str) -> bool:
    """Whether the audit is complete; else it is run again."""
    fault_run.ends.append(over)
    services.say(f"attempt {len(fault_run.attempts)} of {fault_run.experiment}: {over}")
    if over == "COMPLETED":
        return True
    if over != "CRASHED" or (fault_run.hits and fault_run.hits[-1].attempt == len(fault_run.attempts)):
        _explain(services, fault_run, over)
    if over in ("STUCK", "LOST"):
        services.give_up(fault_run.attempts[-1])
    if len(fault_run.attempts) > len(fault_run.kills) + 2:
        services.say(f"{fault_run.experiment} does not become complete")
        return True
    _attempt(services, fault_run)
    return False


def _explain(services: RestartedServices, fault_run: FaultRun, over: str) -> None:
    """Say of the last hit how its attempt ended."""
    if not fault_run.hits:
        return
    message = services.state(fault_run.attempts[-1])[1].splitlines()
    why = f": {message[0].replace(f'{services.folder}/', '')[:160]}" if message and over == "FAILED" else ""
    ended = {"LOST": "died unseen", "STUCK": "hung"}.get(over, over.lower())
    fault_run.hits[-1].outcome = f"the run {ended}{why}; a new one took up what was kept"


def audit_runs(services: RestartedServices, experiment: str) -> list[mlflow.entities.Run]:
    """Every run in an experiment, the newest first."""
    client = mlflow.MlflowClient(services.mlflow)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []
