"""The whole suite: every attack and every honest story on every setting of the server; writes mlflow_plugin/GATE.md.

    .venv/bin/python tests/gate [--only basic-auth-gunicorn-postgresql-2]

Ends with status 1 when an attack gets through, or an honest promotion does not. The quick part, one setting, is in
``test_gate_server.py``.
"""

import argparse
import itertools
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from attacks import ATTACKS
from gated_server import Place, Setting, database
from starts import STARTS, place_in
from stories import STORIES
from workshop import Answer, Workshop, write_policy

PAGE = Path(__file__).parents[2] / "mlflow_plugin" / "GATE.md"
SETTINGS = [
    Setting(app, program, kind, workers=2)
    for app, program, kind in itertools.product(
        (None, "attrail", "basic-auth"), ("uvicorn", "gunicorn"), ("sqlite", "postgresql")
    )
]
Play = Callable[[Workshop], Answer]


@dataclass(frozen=True)
class Outcome:
    """What came back from one attack or story on one setting; ``failure`` is empty when it was as it must be."""

    name: str
    setting: str
    shown: str
    failure: str = ""


def main() -> int:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", action="append", help="Label of a setting; may be given again.")
    chosen = parser.parse_args().only
    settings = [each for each in SETTINGS if not chosen or each.label in chosen]
    outcomes = [outcome for setting in settings for outcome in run(setting)]
    starts = list(refused_starts()) if not chosen else []
    for each in (*outcomes, *starts):
        if each.failure:
            print(f"\n{each.setting}: {each.name}\n{each.failure}")
    if not chosen:
        PAGE.write_text(page(outcomes, starts), encoding="utf-8")
    failed = sum(bool(each.failure) for each in (*outcomes, *starts))
    print(f"{len(outcomes) + len(starts)} played, {failed} not as they must be")
    return int(failed > 0)


def run(setting: Setting) -> Iterator[Outcome]:
    """Every attack and story against a server of its own."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="attrail-gate-") as scratch:
        policy, keys = write_policy(Path(scratch) / "policy")
        with database(setting.database, Path(scratch)) as address:
            place = Place(Path(scratch), address, policy)
            with place.running(setting) as server:
                workshop = Workshop(place, keys, server.address, server.login)
                for attack in ATTACKS:
                    yield played(attack.name, setting.label, attack, workshop)
                for story in STORIES:
                    yield played(named(story), setting.label, honest(story), workshop)
    print(f"{setting.label}: {time.monotonic() - started:.0f} s", flush=True)


def played(name: str, setting: str, play: Play, workshop: Workshop) -> Outcome:
    try:
        return Outcome(name, setting, play(workshop).shown)
    except Exception:  # noqa: BLE001 - whatever happens is shown, and the rest is played all the same
        return Outcome(name, setting, "FAILED", traceback.format_exc())


def honest(story: Play) -> Play:
    def play(workshop: Workshop) -> Answer:
        answer = story(workshop)
        assert answer.status == 200, answer
        return answer

    return play


def named(story: Play) -> str:
    return getattr(story, "__name__", "story").replace("_", " ")


def refused_starts() -> Iterator[Outcome]:
    with tempfile.TemporaryDirectory(prefix="attrail-gate-") as scratch:
        policy, _ = write_policy(Path(scratch) / "policy")
        place = place_in(Path(scratch), policy)
        for each in STARTS:
            try:
                yield Outcome(each.name, "start", f"ends: {each(place)}")
            except AssertionError:
                yield Outcome(each.name, "start", "FAILED", traceback.format_exc())


def page(outcomes: list[Outcome], starts: list[Outcome]) -> str:
    """The page with the tables."""
    settings = list(dict.fromkeys(each.setting for each in outcomes))
    attacks = {each.name: each.expected for each in ATTACKS}
    lines = ["# The gate against attacks", "", "Written by `make gate`; do not edit.", ""]
    lines += [
        f"MLflow {version('mlflow')}; settings (application-program-database-workers): {', '.join(settings)}.",
        "",
    ]
    through = sum(bool(each.failure) for each in outcomes if each.name in attacks)
    lines += [f"{len(attacks)} attacks on {len(settings)} settings: {through} got through. What came back:", ""]
    lines += ["| attack | what came back |", "|---|---|"]
    lines += [f"| {name} | {shown(outcomes, name)} |" for name in attacks]
    lines += [
        "",
        "Honest promotions, and what the gate must leave alone:",
        "",
        "| story | what came back |",
        "|---|---|",
    ]
    lines += [f"| {named(story)} | {shown(outcomes, named(story))} |" for story in STORIES]
    lines += ["", "Servers that must not start:", "", "| start | what it said |", "|---|---|"]
    lines += [f"| {each.name} | {each.shown} |" for each in starts]
    return "\n".join(lines) + "\n"


def shown(outcomes: list[Outcome], name: str) -> str:
    """What came back everywhere, or, where settings differ, each with the settings it came from."""
    found: dict[str, list[str]] = {}
    for each in outcomes:
        if each.name == name:
            found.setdefault(each.shown, []).append(each.setting)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{answer} ({', '.join(settings)})" for answer, settings in found.items())


if __name__ == "__main__":
    sys.exit(main())
