"""Faults that are defined: what each does to an audit, what a person then sees, and what makes it right again."""

import contextlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from disks import full
from fault_run import OVER
from kills import held
from mlflow.exceptions import MlflowException
from points import finished_again, points
from proofs import complete, document, false_pass, half, journal_faults, wrong_result
from registered import CHEAT, HONEST
from restarted_services import RestartedServices
from stack import composed

AWAY = 60.0  # seconds without a server
JUMP = 7200  # seconds by which a clock jumps
PATIENCE = 400.0


@dataclass
class Finding:
    """What a fault did. ``said`` is what a person reads where they look first; ``wrong`` must be empty."""

    fault: str
    done: str
    said: str = ""
    mend: str = "nothing"
    seconds: float = 0.0
    wrong: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Scene:
    """The services, and what audits find that nobody disturbs."""

    services: RestartedServices
    undisturbed: Mapping[str, Any]

    def ended(self, run: str) -> tuple[str, str]:
        """How a flow run ended: its state and the first line of its message."""
        deadline = time.monotonic() + PATIENCE
        while (found := self.services.state(run))[0] not in OVER:
            assert time.monotonic() < deadline, f"run {run} is still {found}"
            time.sleep(0.5)
        return found[0], found[1].strip().partition("\n")[0]

    def audited(self, candidate: str, experiment: str) -> tuple[str, str]:
        return self.ended(self.services.begin_audit(candidate, experiment))

    def held_at(self, point: str, run: Callable[[], str]) -> "contextlib.AbstractContextManager[str]":
        return _held_at(self.services, point, run)

    def wrong(self, candidate: str, experiment: str, since: int) -> list[str]:
        """What is wrong once the fault is over and the audit complete."""
        twice = finished_again(points(self.services.faults, since))
        return [
            *wrong_result(self.services, experiment, candidate, self.undisturbed[candidate]),
            *half(self.services, experiment),
            *false_pass(self.services, experiment),
            *journal_faults(self.services, experiment),
            *([f"twice: finished shards were computed again: {twice}"] if twice else []),
        ]


@contextlib.contextmanager
def _held_at(services: RestartedServices, point: str, begin: Callable[[], str]) -> Iterator[str]:
    """A run that waits at a point while the block does something to it."""
    before = len(points(services.faults))
    with held(services, point):
        run = begin()
        deadline = time.monotonic() + PATIENCE
        while not any(each.point == point for each in points(services.faults, before)):
            assert time.monotonic() < deadline, f"{point} was not reached: {services.state(run)}"
            time.sleep(0.1)
        yield run


def _away(scene: Scene, name: str, point: str) -> Finding:
    services, experiment = scene.services, f"{name}-away"
    since, began = len(points(services.faults)), time.monotonic()
    with scene.held_at(point, lambda: services.begin_audit(CHEAT, experiment)) as run:
        for each in services.tree(name):
            each.kill()
        services.running[name].wait()
    time.sleep(AWAY)
    services.start(name)
    end, message = scene.ended(run)
    found = Finding(f"{name} is away for a minute", f"killed while a shard was computed, started {AWAY:.0f} s later")
    found.said = f"the run waits and is {end.lower()}" + (f": {message}" if message else "")
    found.seconds = time.monotonic() - began
    if end != "COMPLETED":
        found.wrong.append(f"the run ended {end}: {message}")
        scene.audited(CHEAT, experiment)
    found.wrong += scene.wrong(CHEAT, experiment, since)
    return found


def mlflow_away(scene: Scene) -> Finding:
    return _away(scene, "mlflow", "shard computed")


def prefect_away(scene: Scene) -> Finding:
    return _away(scene, "prefect", "shard computed")


def two_at_once(scene: Scene) -> Finding:
    """Two command lines, one journal, one cache, one version."""
    services, experiment = scene.services, "two-at-once"
    config = services.folder / "policy/two.toml"
    text = (services.folder / "policy/attrail.toml").read_text()
    config.write_text(text.replace("[registry]", f'[registry]\nexperiment = "{experiment}"'))
    command = [str(Path(sys.executable).with_name("attrail")), "audit", "--config", str(config), "--candidate", CHEAT]
    environment = services.environment(composed()["worker"])
    began = time.monotonic()
    both = [
        subprocess.Popen(
            command, env=environment, cwd=services.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        for _ in range(2)
    ]
    said = [(each.communicate(timeout=PATIENCE)[0].decode(), each.returncode) for each in both]
    found = Finding("two audits of one version at once", "two processes, one journal file, one cache, started together")
    found.seconds = time.monotonic() - began
    found.said = f"both end with exit status {' and '.join(str(status) for _, status in said)} (1 is DRIFT)"
    found.mend = "nothing; the version carries the newer statement"
    found.wrong += [text.strip()[-300:] for text, status in said if status != 1]
    runs = complete(services, experiment, CHEAT)
    if len(runs) != 2 or document(services, runs[0])["maps"] != document(services, runs[1])["maps"]:
        found.wrong.append(f"{len(runs)} complete runs, or other maps in one of them")
    found.wrong += scene.wrong(CHEAT, experiment, len(points(services.faults)))
    return found


def image_exchanged(scene: Scene) -> Finding:
    """A file is cut in half after the slice was validated; the audit after it must refuse the slice."""
    services, experiment = scene.services, "image-exchanged"
    since, began = len(points(services.faults)), time.monotonic()
    image = sorted((services.folder / "slices/scans").iterdir())[20]
    whole = image.read_bytes()
    with scene.held_at("shard computed", lambda: services.begin_audit(CHEAT, experiment)) as run:
        image.write_bytes(whole[: len(whole) // 2])
    found = Finding("a corrupt image in the middle of a slice", "a file cut in half while shards were computed")
    try:
        first, second = scene.ended(run), scene.audited(CHEAT, experiment)
    finally:
        image.write_bytes(whole)
    found.said = (
        f"the run under way is {first[0].lower()} on what it validated; the next is {second[0].lower()}: {second[1]}"
    )
    found.mend = "put the file back"
    if first[0] != "COMPLETED" or second[0] != "FAILED" or image.name not in second[1]:
        found.wrong.append(f"{first}, {second}")
    found.seconds = time.monotonic() - began
    found.wrong += scene.wrong(CHEAT, experiment, since)
    return found


def _full(
    scene: Scene, fault: str, folder: Path, point: str, candidate: str, experiment: str, *, left: int = 0
) -> Finding:
    """A disk is full from a point on; once there is space again, the audit is run again if it failed."""
    services, began, since = scene.services, time.monotonic(), len(points(scene.services.faults))
    with contextlib.ExitStack() as disk:
        with scene.held_at(point, lambda: services.begin_audit(candidate, experiment)) as run:
            disk.enter_context(full(folder, left))
        end, message = scene.ended(run)
    found = Finding(fault, f"the disk is full from the point {point!r} on")
    found.said = f"the run is {end.lower()}: {message}"
    if end != "FAILED":
        found.wrong.append(f"the run is {end} on a full disk: {message}")
    done = len(complete(services, experiment, candidate))
    again = scene.audited(candidate, experiment)
    found.mend = "make space, run it again"
    if again[0] != "COMPLETED" or len(complete(services, experiment, candidate)) != done + 1:
        found.wrong.append(f"run again: {again}")
    found.seconds = time.monotonic() - began
    found.wrong += scene.wrong(candidate, experiment, since)
    return found


def temporary_full(scene: Scene) -> Finding:
    return _full(
        scene,
        "the worker's temporary folder is full",
        scene.services.folder / "tmp",
        "shard begun",
        CHEAT,
        "temporary-full",
    )


def journal_full(scene: Scene) -> Finding:
    folder = scene.services.folder / "journal"
    return _full(scene, "the worker's journal folder is full", folder, "evidence sent", CHEAT, "disks")


def artifacts_full(scene: Scene) -> Finding:
    folder = scene.services.folder / "artifacts"
    fault = "MLflow's artifact folder is full"
    return _full(scene, fault, folder, "evidence written", HONEST, "disks", left=150_000)


def gate_disk_full(scene: Scene) -> Finding:
    """The database's disk, with the gate's journal on it, is full while the gate decides."""
    services, began = scene.services, time.monotonic()
    scene.audited(HONEST, "disks")
    found = Finding(
        "the disk of the gate's journal is full", "while the gate decides whether digits/7 becomes champion"
    )
    again = services.postmaster().cmdline()
    with full(services.folder / "databases"):
        _use_up_log(services)
        refused = _gate(services, HONEST)
    found.said = f"exit status {refused.returncode}: {refused.stdout.strip().splitlines()[-1][:200]}"
    found.mend = "make space, ask again"
    services.revive_postgres(again)
    if refused.returncode == 0 or services.champion() != "1":
        found.wrong.append(f"the alias moved: {refused.stdout}")
    asked = _gate(services, HONEST)
    if asked.returncode != 0 or services.champion() != HONEST:
        found.wrong.append(f"asked again: {asked.stdout}")
    database = f"postgresql://mlflow@127.0.0.1:{services.ports['postgres']}/mlflow"
    trust = str(services.folder / "policy/gate.toml")
    services.run("verify", database, "--trust", trust, PGPASSWORD=services.passwords["mlflow"])
    found.seconds = time.monotonic() - began
    return found


def _use_up_log(services: RestartedServices) -> None:
    """Postgres keeps some of its log's space in reserve: write until that is used up, too."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    login = f"postgres:{services.passwords['postgres']}"
    engine = create_engine(f"postgresql://{login}@127.0.0.1:{services.ports['postgres']}/mlflow")
    with contextlib.suppress(SQLAlchemyError), engine.connect() as connection:
        while True:
            connection.execute(text("SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000))"))


def _gate(services: RestartedServices, version: str) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("attrail")), "gate", f"models:/digits/{version}"]
    return subprocess.run(
        command,
        env=services.environment(composed()["worker"]),
        cwd=services.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def clock_jumps(scene: Scene) -> Finding:
    """An audit's clock jumps forward, then back; statements say when they were issued, and the gate goes by that."""
    services, began, experiment = scene.services, time.monotonic(), "clock"
    since = len(points(services.faults))
    first = scene.audited(HONEST, experiment)
    forward, back = (_jumped(scene, seconds, experiment) for seconds in (JUMP, -JUMP))
    found = Finding(
        "the worker's clock jumps", f"by {JUMP // 3600} h forward, and back, before the evidence is written"
    )
    found.said = f"forward {forward[0].lower()}: {forward[1]}; back {back[0].lower()}: {back[1]}"
    found.mend = "set the clock right (`attrail doctor` compares it), run it again"
    again = scene.audited(HONEST, experiment)
    if (first[0], forward[0], back[0], again[0]) != ("COMPLETED", "FAILED", "FAILED", "COMPLETED"):
        found.wrong.append(f"{first}, {forward}, {back}, {again}")
    found.seconds = time.monotonic() - began
    found.wrong += scene.wrong(HONEST, experiment, since)
    return found


def _jumped(scene: Scene, seconds: int, experiment: str) -> tuple[str, str]:
    """An audit whose clock jumps; those of the servers go on."""
    services = scene.services
    try:
        with scene.held_at("judged", lambda: services.begin_audit(HONEST, experiment)) as run:
            services.set_clock(seconds)
            time.sleep(3)  # until the process has looked: it does so every second
        return scene.ended(run)
    finally:
        services.set_clock(0)


def observed(fault: Callable[[Scene], Finding], scene: Scene) -> Finding:
    """What a fault did; that it could not be looked at is wrong, too."""
    try:
        return fault(scene)
    except (AssertionError, MlflowException) as error:
        return Finding(fault.__name__.replace("_", " "), "", wrong=[f"it did not end: {error}"])


CLOCK = "clock"
PARTS: dict[str, Sequence[Callable[[Scene], Finding]]] = {
    "servers": (mlflow_away, prefect_away),
    "inputs": (two_at_once, image_exchanged),
    "worker-disks": (temporary_full, journal_full),
    "server-disks": (artifacts_full, gate_disk_full),
    CLOCK: (clock_jumps,),
}
