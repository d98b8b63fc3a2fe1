"""Kill it until it is right: ``python tests/faults [kills|defined|page] [--seed N] [--audits N]``; needs PostgreSQL.

kills     audits of an honest retrain and of a cheat, each hit by several kill -9, each run again until it is complete
defined   full disks, servers that are away, a clock that jumps, two audits at once, an image that changes meanwhile
page      writes deploy/FAULTS.md from what both found; without a word all three are done
"""

import argparse
import hashlib
import json
import os
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import attrail_flows  # noqa: F401 - telemetry off before MLflow and Prefect are imported

sys.path.append(str(Path(__file__).parents[1] / "end_to_end"))
sys.path.append(str(Path(__file__).parents[1] / "deploy"))
sys.path.append(str(Path(__file__).parents[1] / "gate"))
sys.path.append(str(Path(__file__).parents[2] / "deploy/demo"))
from defined import CLOCK, PARTS, Scene, observed
from fault_run import FaultRun, endure
from kills import planned
from page import write_page
from proofs import complete, document, wrong
from registered import CHEAT, EXPECTED, HONEST, register, write_images
from restarted_services import ROOT, RestartedServices, interrupt_cleanly

KEPT = ROOT / "build/faults"
TARGETS = {
    "threads": (
        "flow",
        "mlflow",
        "worker's container",
        "postgres",
        "mlflow worker",
        "prefect",
        "worker",
        "postgres backend",
    ),
    "processes": ("shard", "flow", "mlflow"),
}


def kills(seed: int, audits: int, number: int, runner: str) -> None:
    """Audits of both candidates that are hit, each held against one that nobody disturbed."""
    with tempfile.TemporaryDirectory(prefix="attrail-faults-") as folder:
        services = RestartedServices.set_up(Path(folder))
        write_images(services)
        with services.playing():
            register(services, KEPT / "models")
            expected = undisturbed(services)
            found = []
            for turn in range(audits):
                draw = random.Random(1000 * seed + turn)
                plan = planned(1000 * seed + turn, TARGETS[runner], number)
                candidate = (CHEAT, CHEAT, HONEST)[(seed + turn) % 3]
                fault_run = endure(services, FaultRun(candidate, runner, f"kills-{seed}-{turn}", plan), draw)
                faults = wrong(services, fault_run, expected[candidate])
                for fault in faults:
                    services.say(f"WRONG  {fault_run.experiment}: {fault}")
                _show_logs(services, bool(faults))
                found.append(_facts(fault_run) | {"wrong": faults})
                _keep(f"kills-{seed}", {"seed": seed, "undisturbed": expected["facts"], "audits": found})
            services.run("verify", str(services.folder / "journal/audits.jsonl"), "--trust", _trust(services))
            services.run("gate", f"models:/digits/{CHEAT}", status=1)


def defined(parts: Sequence[str]) -> None:
    """The faults of these parts, all on the same servers but those of the clock."""
    for group in ([each for each in parts if each != CLOCK], [each for each in parts if each == CLOCK]):
        if group:
            with tempfile.TemporaryDirectory(prefix="attrail-faults-") as folder:
                _defined(group, RestartedServices.set_up(Path(folder)))


def _defined(parts: Sequence[str], services: RestartedServices) -> None:
    services.jumps = CLOCK in parts
    write_images(services)
    with services.playing(small_disks=any(each.endswith("disks") for each in parts)):
        register(services, KEPT / "models")
        scene = Scene(services, undisturbed(services))
        for part in parts:
            found = []
            for fault in PARTS[part]:
                found.append(observed(fault, scene))
                found[-1].said = found[-1].said.replace(f"{services.folder}/", "")
                services.say(f"{found[-1].fault}: {found[-1].said}; {found[-1].seconds:.0f} s")
                for each in found[-1].wrong:
                    services.say(f"WRONG  {each}")
                _keep(f"defined-{part}", {"findings": [asdict(each) for each in found]})
                _show_logs(services, bool(found[-1].wrong))


def undisturbed(services: RestartedServices) -> dict[str, Any]:
    """What audits find that nobody disturbs: by candidate, and under ``facts`` what they took.

    Kept for the parts after this one, as long as code and models are the same.
    """
    path = KEPT / f"undisturbed-{_code(services)}.json"
    if not path.exists():
        plain = [endure(services, FaultRun(each, "threads", "undisturbed", []), random.Random(0)) for each in EXPECTED]
        found: dict[str, Any] = {"facts": [_facts(each) for each in plain]}
        for each in EXPECTED:
            found[each] = document(services, complete(services, "undisturbed", each)[0])
            assert found[each]["verdict"] == EXPECTED[each], found[each]["reason"]
        path.write_text(json.dumps(found))
    return dict(json.loads(path.read_text()))


def _code(services: RestartedServices) -> str:
    """Digest of what computes, the models and the configuration: an audit finds the same while it is the same."""
    digest = hashlib.sha256(
        (services.folder / "policy/attrail.toml").read_text().partition("[[explainer]]")[2].encode()
    )
    packages = [services.folder / "code" / name for name in ("explainers", "monitoring")]
    for path in sorted([*(KEPT / "models").iterdir(), *(file for each in packages for file in each.rglob("*.py"))]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _show_logs(services: RestartedServices, wanted: bool) -> None:
    if wanted:
        for path in (*services.folder.glob("*.log"), services.faults / "trace.jsonl"):
            (KEPT / path.name).write_bytes(path.read_bytes())


def _trust(services: RestartedServices) -> str:
    return str(services.folder / "policy/gate.toml")


def _facts(fault_run: FaultRun) -> dict[str, object]:
    return {
        "candidate": fault_run.candidate,
        "runner": fault_run.runner,
        "experiment": fault_run.experiment,
        "attempts": len(fault_run.attempts),
        "ends": fault_run.ends,
        "seconds": fault_run.seconds,
        "hits": [asdict(each) for each in fault_run.hits],
        "shards": sum(each.point == "shard begun" for each in fault_run.trace),
    }


def _keep(name: str, facts: dict[str, object]) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("part", choices=("kills", "defined", "page"), nargs="?")
    asked.add_argument("--seed", type=int, default=1)
    asked.add_argument("--audits", type=int, default=3)
    asked.add_argument("--kills", type=int, default=8, help="kills of each audit")
    asked.add_argument("--runner", choices=TARGETS, default="threads")
    asked.add_argument("--only", choices=PARTS, nargs="+", default=list(PARTS), help="parts of the defined faults")
    given = asked.parse_args()
    interrupt_cleanly()
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "7"
    if given.part == "kills":
        kills(given.seed, given.audits, given.kills, given.runner)
    if given.part is None:
        kills(given.seed, given.audits, given.kills, "threads")
        kills(given.seed + 1, 1, given.kills, "processes")
    if given.part in ("defined", None):
        defined(given.only)
    write_page(KEPT, ROOT / "deploy/FAULTS.md")
