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
from arena import ROOT, Arena, interrupt_cleanly
from defined import CLOCK, PARTS, Scene, observed
from kills import planned
from ordeal import Ordeal, endure
from page import write_page
from proofs import complete, document, wrong
from registered import CHEAT, EXPECTED, HONEST, register, write_images

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
        stage = Arena.set_up(Path(folder))
        write_images(stage)
        with stage.playing():
            register(stage, KEPT / "models")
            expected = undisturbed(stage)
            found = []
            for turn in range(audits):
                draw = random.Random(1000 * seed + turn)
                plan = planned(1000 * seed + turn, TARGETS[runner], number)
                candidate = (CHEAT, CHEAT, HONEST)[(seed + turn) % 3]
                ordeal = endure(stage, Ordeal(candidate, runner, f"kills-{seed}-{turn}", plan), draw)
                faults = wrong(stage, ordeal, expected[candidate])
                for fault in faults:
                    stage.say(f"WRONG  {ordeal.experiment}: {fault}")
                _show_logs(stage, bool(faults))
                found.append(_facts(ordeal) | {"wrong": faults})
                _keep(f"kills-{seed}", {"seed": seed, "undisturbed": expected["facts"], "audits": found})
            stage.run("verify", str(stage.folder / "journal/audits.jsonl"), "--trust", _trust(stage))
            stage.run("gate", f"models:/digits/{CHEAT}", status=1)


def defined(parts: Sequence[str]) -> None:
    """The faults of these parts, all on the same servers but those of the clock."""
    for group in ([each for each in parts if each != CLOCK], [each for each in parts if each == CLOCK]):
        if group:
            with tempfile.TemporaryDirectory(prefix="attrail-faults-") as folder:
                _defined(group, Arena.set_up(Path(folder)))


def _defined(parts: Sequence[str], stage: Arena) -> None:
    stage.jumps = CLOCK in parts
    write_images(stage)
    with stage.playing(small_disks=any(each.endswith("disks") for each in parts)):
        register(stage, KEPT / "models")
        scene = Scene(stage, undisturbed(stage))
        for part in parts:
            found = []
            for fault in PARTS[part]:
                found.append(observed(fault, scene))
                found[-1].said = found[-1].said.replace(f"{stage.folder}/", "")
                stage.say(f"{found[-1].fault}: {found[-1].said}; {found[-1].seconds:.0f} s")
                for each in found[-1].wrong:
                    stage.say(f"WRONG  {each}")
                _keep(f"defined-{part}", {"findings": [asdict(each) for each in found]})
                _show_logs(stage, bool(found[-1].wrong))


def undisturbed(stage: Arena) -> dict[str, Any]:
    """What audits find that nobody disturbs: by candidate, and under ``facts`` what they took.

    Kept for the parts after this one, as long as code and models are the same.
    """
    path = KEPT / f"undisturbed-{_code(stage)}.json"
    if not path.exists():
        plain = [endure(stage, Ordeal(each, "threads", "undisturbed", []), random.Random(0)) for each in EXPECTED]
        found: dict[str, Any] = {"facts": [_facts(each) for each in plain]}
        for each in EXPECTED:
            found[each] = document(stage, complete(stage, "undisturbed", each)[0])
            assert found[each]["verdict"] == EXPECTED[each], found[each]["reason"]
        path.write_text(json.dumps(found))
    return dict(json.loads(path.read_text()))


def _code(stage: Arena) -> str:
    """Digest of what computes, the models and the configuration: an audit finds the same while it is the same."""
    digest = hashlib.sha256((stage.folder / "policy/attrail.toml").read_text().partition("[[explainer]]")[2].encode())
    packages = [stage.folder / "code" / name for name in ("explainers", "monitoring")]
    for path in sorted([*(KEPT / "models").iterdir(), *(file for each in packages for file in each.rglob("*.py"))]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _show_logs(stage: Arena, wanted: bool) -> None:
    if wanted:
        for path in (*stage.folder.glob("*.log"), stage.faults / "trace.jsonl"):
            (KEPT / path.name).write_bytes(path.read_bytes())


def _trust(stage: Arena) -> str:
    return str(stage.folder / "policy/gate.toml")


def _facts(ordeal: Ordeal) -> dict[str, object]:
    return {
        "candidate": ordeal.candidate,
        "runner": ordeal.runner,
        "experiment": ordeal.experiment,
        "attempts": len(ordeal.attempts),
        "ends": ordeal.ends,
        "seconds": ordeal.seconds,
        "hits": [asdict(each) for each in ordeal.hits],
        "shards": sum(each.point == "shard begun" for each in ordeal.trace),
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
