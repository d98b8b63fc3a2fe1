"""A small audit with its bundle, its journal and the key that signed them; one gated server for all quick tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "gate"))
from gate_client import GateClient, Keys, write_policy
from gated_server import Place, Server, Setting, database
from small_audit import Small, write_small


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return write_small(tmp_path / "small")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Place, Keys]]:
    folder = tmp_path_factory.mktemp("gate")
    policy, keys = write_policy(folder / "policy")
    with database("sqlite", folder) as address:
        yield Place(folder, address, policy), keys


@pytest.fixture(scope="session")
def server(place: tuple[Place, Keys]) -> Iterator[Server]:
    with place[0].running(Setting(app="attrail")) as running:
        yield running


@pytest.fixture
def gate_client(server: Server, place: tuple[Place, Keys]) -> GateClient:
    return GateClient(*place, server.address, server.login)
