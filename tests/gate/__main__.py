"""The whole suite: every attack and every honest story on every setting of the server; writes mlflow_plugin/ATTACKS.md.

    .venv/bin/python tests/gate [--only basic-auth-gunicorn-postgresql-2] [--keep FOLDER]

Ends with status 1 when an attack gets through, or an honest promotion does not. The quick part, one setting, is in
``test_gate_server.py``.
"""

import argparse
import itertools
import json
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from attack_page import put, software, table
from attacks import ATTACKS
from gate_client import Answer, GateClient, write_policy
from gated_server import Place, Setting, database
from starts import STARTS, place_in
from stories import STORIES

SETTINGS = [
    Setting(app, program, kind, workers=2)
    for app, program, kind in itertools.product(
        (None, "attrail", "basic-auth"), ("uvicorn", "gunicorn"), ("sqlite", "postgresql")
    )
]
Play = Callable[[GateClient], Answer]


@dataclass(frozen=True)
class Outcome:
    """What came back from one attack, story or start on one setting; ``failure`` is empty when it was as it must be."""

    kind: str
    name: str
    setting: str
    shown: str
    failure: str = ""


def main() -> int:
    """Run everything and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--only", action="append", help="Label of a setting, or starts; may be given again. Writes no page."
    )
    parser.add_argument("--keep", type=Path, help="Where outcomes are kept; what is found there is not played again.")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and so are the servers
    parts = {each.label: partial(run, each) for each in SETTINGS} | {"starts": refused_starts}
    chosen = {label: play for label, play in parts.items() if not given.only or label in given.only}
    outcomes = [outcome for label, play in chosen.items() for outcome in kept(label, play, given.keep)]
    failures = [each for each in outcomes if each.failure]
    for each in failures:
        print(f"\n{each.setting}: {each.name}\n{each.failure}")
    if not given.only:
        put(sections(outcomes))
    print(f"{len(outcomes)} played, {len(failures)} not as they must be")
    return int(bool(failures))


def kept(label: str, play: Callable[[], Iterator[Outcome]], folder: Path | None) -> list[Outcome]:
    """The outcomes on a setting: those in a folder, if there are any, else new ones, put there if all is well."""
    path = folder / f"{label}.json" if folder else None
    if path is not None and path.exists():
        return [Outcome(**each) for each in json.loads(path.read_text())]
    started = time.monotonic()
    outcomes = list(play())
    print(f"{label}: {time.monotonic() - started:.0f} s", flush=True)
    if path is not None and not any(each.failure for each in outcomes):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps([asdict(each) for each in outcomes]))
    return outcomes


def run(setting: Setting) -> Iterator[Outcome]:
    """Every attack and story against a server of its own."""
    with tempfile.TemporaryDirectory(prefix="attrail-gate-") as scratch:
        policy, keys = write_policy(Path(scratch) / "policy")
        with database(setting.database, Path(scratch)) as address:
            place = Place(Path(scratch), address, policy)
            with place.running(setting) as server:
                gate_client = GateClient(place, keys, server.address, server.login)
                for attack in ATTACKS:
                    yield played("attack", attack.name, setting, attack, gate_client)
                for story in STORIES:
                    yield played("story", named(story), setting, honest(story), gate_client)


def played(kind: str, name: str, setting: Setting, play: Play, gate_client: GateClient) -> Outcome:
    try:
        return Outcome(kind, name, setting.label, play(gate_client).shown)
    except Exception:  # noqa: BLE001 - whatever happens is shown, and the rest is played all the same
        return Outcome(kind, name, setting.label, "FAILED", traceback.format_exc())


def honest(story: Play) -> Play:
    def play(gate_client: GateClient) -> Answer:
        answer = story(gate_client)
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
                yield Outcome("start", each.name, "start", each(place))
            except AssertionError:
                yield Outcome("start", each.name, "start", "FAILED", traceback.format_exc())


def sections(outcomes: list[Outcome]) -> dict[str, str]:
    """The page's sections about attacks, stories, starts and settings."""
    attacks, stories, starts = (of_kind(outcomes, kind) for kind in ("attack", "story", "start"))
    settings = list(dict.fromkeys(each.setting for each in attacks))
    names = len({each.name for each in attacks})
    through = sum(bool(each.failure) for each in attacks)
    held = sum(not each.failure for each in stories)
    says = (
        f"{names} attacks on {len(settings)} settings of a real `mlflow server`: {through} of {len(attacks)} got "
        "through. `killed` is a gate killed in the middle of a promotion: nothing had changed, and the promotion could "
        "be repeated. `200` is a request that MLflow grants, and that changed no protected role."
    )
    return {
        "Attacks": f"{says}\n\n{answers(attacks)}",
        "Honest promotions": f"And what the gate must leave alone: {held} of {len(stories)}.\n\n{answers(stories)}",
        "Servers that must not start": table(["start", "what it said last"], _cells(starts), left=2),
        "Settings": f"{software()}\n\n{_per_setting(settings, attacks, stories)}",
    }


def of_kind(outcomes: list[Outcome], kind: str) -> list[Outcome]:
    return [each for each in outcomes if each.kind == kind]


def answers(outcomes: list[Outcome]) -> str:
    """What came back from each, on every setting or, where they differ, with the settings it came from."""
    names = dict.fromkeys(each.name for each in outcomes)
    rows = [(name, shown([each for each in outcomes if each.name == name])) for name in names]
    return table(["", "what came back, on every setting if none is named"], rows, left=2)


def shown(outcomes: list[Outcome]) -> str:
    found: dict[str, list[str]] = {}
    for each in outcomes:
        found.setdefault(each.shown, []).append(each.setting)
    if len(found) == 1:
        return next(iter(found))
    return "; ".join(f"{answer} ({', '.join(settings)})" for answer, settings in found.items())


def _per_setting(settings: list[str], attacks: list[Outcome], stories: list[Outcome]) -> str:
    heads = ["application, program, database, workers", "attacks", "got through", "honest", "refused"]
    return table(heads, ([each, *_counts(each, attacks), *_counts(each, stories)] for each in settings))


def _counts(setting: str, outcomes: list[Outcome]) -> tuple[int, int]:
    here = [each for each in outcomes if each.setting == setting]
    return len(here), sum(bool(each.failure) for each in here)


def _cells(outcomes: list[Outcome]) -> Iterator[tuple[str, str]]:
    return ((each.name, each.shown) for each in outcomes)


if __name__ == "__main__":
    sys.exit(main())
