"""One audit that is hit again and again, run again after each crash as a platform does, until it is complete."""

import contextlib
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
import mlflow
from arena import Arena
from kills import EARLY, LOST, SAID, Kill, flow_process, held, strike
from points import Point, begun_again, points

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
class Ordeal:
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


def endure(stage: Arena, ordeal: Ordeal, draw: random.Random) -> Ordeal:
    """Run the audit until it is complete; every kill of the plan that comes due hits it."""
    first, ordeal.began = len(points(stage.faults)), time.time()
    waiting = list(ordeal.kills)
    _attempt(stage, ordeal)
    with contextlib.ExitStack() as holds:
        while True:
            kill = waiting[0] if waiting else None
            over = _awaited(stage, ordeal, kill, first, holds)
            if over is None:
                waiting.pop(0)
                _hit(stage, ordeal, kill, first, draw)
            holds.close()
            if over is not None and _ended(stage, ordeal, over):
                break
    ordeal.trace = points(stage.faults, first)
    ordeal.seconds = time.time() - ordeal.began
    ends = [each.time for each in ordeal.hits[1:]] + [time.time()]
    for hit, end in zip(ordeal.hits, ends, strict=False):
        hit.again = begun_again([each for each in ordeal.trace if each.time < end], hit.time)
        hit.seconds = time.time() - hit.time
    return ordeal


def _attempt(stage: Arena, ordeal: Ordeal) -> None:
    ordeal.attempts.append(stage.begin_audit(ordeal.candidate, ordeal.experiment, ordeal.runner))


def _awaited(stage: Arena, ordeal: Ordeal, kill: Kill | None, first: int, holds: contextlib.ExitStack) -> str | None:
    """None once the kill is due, or how the attempt ended before that."""
    seen, begun = len(points(stage.faults, first)), time.monotonic()
    asked = alive = begun
    armed = False
    while time.monotonic() - begun < PATIENCE:
        new = points(stage.faults, first + seen)
        if kill and kill.point and not armed and _count(kill, new) >= kill.count:
            holds.enter_context(held(stage, kill.point))
            armed, seen, new = True, seen + len(new), []
        if kill and _due(kill, new, begun, armed) and flow_process(stage) is not None:
            return None
        if time.monotonic() - asked > 1.0:
            asked = time.monotonic()
            state = _state(stage, ordeal.attempts[-1])
            if state in OVER:
                return state
            if state != "RUNNING" or flow_process(stage) is not None:
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


def _state(stage: Arena, run: str) -> str | None:
    with contextlib.suppress(httpx.HTTPError):
        return str(httpx.get(f"{stage.prefect}/flow_runs/{run}", timeout=5).raise_for_status().json()["state"]["type"])
    return None


def _hit(stage: Arena, ordeal: Ordeal, kill: Kill, first: int, draw: random.Random) -> None:
    moment = time.time()
    process = flow_process(stage)
    own = {process.pid, *(each.pid for each in process.children(recursive=True))} if process else set()
    reached = [each.point for each in points(stage.faults, first) if each.pid in own]
    during = SAID[kill.point if kill.point in reached[-3:] else reached[-1] if reached else None]
    what = strike(stage, kill.target, draw)
    ordeal.hits.append(Hit(what, during, len(ordeal.attempts), moment))
    stage.say(f"kill -9 {what}, {during} ({ordeal.experiment}, attempt {len(ordeal.attempts)})")
    if kill.target in LOST:
        stage.give_up(ordeal.attempts[-1])


def _ended(stage: Arena, ordeal: Ordeal, over: str) -> bool:
    """Whether the audit is complete; else it is run again."""
    ordeal.ends.append(over)
    stage.say(f"attempt {len(ordeal.attempts)} of {ordeal.experiment}: {over}")
    if over == "COMPLETED":
        return True
    if over != "CRASHED" or (ordeal.hits and ordeal.hits[-1].attempt == len(ordeal.attempts)):
        _explain(stage, ordeal, over)
    if over in ("STUCK", "LOST"):
        stage.give_up(ordeal.attempts[-1])
    if len(ordeal.attempts) > len(ordeal.kills) + 2:
        stage.say(f"{ordeal.experiment} does not become complete")
        return True
    _attempt(stage, ordeal)
    return False


def _explain(stage: Arena, ordeal: Ordeal, over: str) -> None:
    """Say of the last hit how its attempt ended."""
    if not ordeal.hits:
        return
    message = stage.state(ordeal.attempts[-1])[1].splitlines()
    why = f": {message[0].replace(f'{stage.folder}/', '')[:160]}" if message and over == "FAILED" else ""
    ended = {"LOST": "died unseen", "STUCK": "hung"}.get(over, over.lower())
    ordeal.hits[-1].outcome = f"the run {ended}{why}; a new one took up what was kept"


def audit_runs(stage: Arena, experiment: str) -> list[mlflow.entities.Run]:
    """Every run in an experiment, the newest first."""
    client = mlflow.MlflowClient(stage.mlflow)
    found = client.get_experiment_by_name(experiment)
    return list(client.search_runs([found.experiment_id])) if found else []
