"""The gate in front of a real server: no attack gets through, every honest promotion does."""

import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import requests
from attacks import ATTACKS, Attack
from gate_client import Answer, GateClient, write_policy
from gated_server import Place, Server, Setting, database
from stories import STORIES


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.name)
def test_no_attack_gets_through(attack: Attack, gate_client: GateClient) -> None:
    attack(gate_client)


@pytest.mark.parametrize("story", STORIES, ids=lambda each: each.__name__)
def test_every_honest_promotion_does(story: Callable[[GateClient], Answer], gate_client: GateClient) -> None:
    answer = story(gate_client)
    assert answer.status == 200, answer


def test_a_worker_started_anew_with_another_policy_promotes_nothing_and_says_so(tmp_path: Path) -> None:
    policy, keys = write_policy(tmp_path / "policy")
    with database("sqlite", tmp_path) as address:
        place = Place(tmp_path, address, policy)
        with place.running(Setting("attrail", workers=2)) as server:
            w = GateClient(place, keys, server.address)
            champion = w.champion()
            evil = w.version(champion.name)
            policy.write_text('aliases = ["elsewhere"]\nstages = []\n' + policy.read_text())
            _kill_a_worker(server)
            health = _refusing_health(server)
            assert health["policy_digest"] != health["policy_in_force"]
            answers = [GateClient(place, keys, server.address).promote(evil) for _ in range(12)]
            assert {each.shown for each in answers} <= {"403 missing", "403 other-policy"}, answers
            assert w.holder(champion.name) == champion.version


def _kill_a_worker(server: Server) -> None:
    """One of uvicorn's workers, which its parent replaces."""
    found = psutil.Process(server.process.pid).children(recursive=True)
    next(each for each in found if any("spawn_main" in word for word in each.cmdline())).kill()


def _refusing_health(server: Server) -> dict[str, str]:
    """What the new worker says; each question on a connection of its own, since any worker may take it."""
    deadline = time.monotonic() + 120
    while True:
        answer = requests.get(f"{server.address}/attrail/health", timeout=60)
        if answer.status_code == requests.codes.unavailable:
            assert answer.json()["gate"].startswith("refusing"), answer.text
            return dict(answer.json())
        assert answer.json()["gate"] == "on", answer.text
        assert time.monotonic() < deadline, "the worker was not replaced"
        time.sleep(0.1)


def test_there_are_at_least_fifty_attacks() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 50
