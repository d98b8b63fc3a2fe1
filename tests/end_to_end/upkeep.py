"""What PLATFORM.md tells the platform's owner to do, done: other ways to deploy, downtime, backup and restore.

Run by ``pytest -s tests/end_to_end/upkeep.py``. Every test goes on from where the one before it ended.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import mlflow
import pytest
import yaml
from flow_runs import PATIENCE, deployment, runs
from services import IMAGES, Services, cluster, make_databases
from stack import DEPLOY, composed

from digits import Scans
from train import Recipe, log_version, train

pytestmark = pytest.mark.timeout(600)
NIGHTS = 3  # as many as the server schedules at once
BLOCK = "00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory, scans: Scans) -> Iterator[Services]:
    """The services without worker and receiver, as while those are down."""
    found = Services.set_up(tmp_path_factory.mktemp("services"))
    found.show_digits(scans)
    with cluster(found):
        try:
            found.open(working=False)
            yield found
        finally:
            found.stop()


def prefect(services: Services, *words: str) -> str:
    """A command of Prefect's own, typed where deployments are made; what it printed."""
    command = [str(Path(sys.executable).with_name("prefect")), "--no-prompt", *words]
    environment = services.environment(composed()["deployments"]) | {"COLUMNS": "200"}
    done = subprocess.run(command, env=environment, cwd=DEPLOY, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    services.say(f"$ prefect {' '.join(words)}")
    return done.stdout + done.stderr


def dry_run(services: Services) -> list[str]:
    words = ("deploy", "--dry-run", "--config", str(services.folder / "policy/attrail.toml"))
    return services.run(*words, user="deployments").splitlines()


def test_prefect_deploys_the_same_file_but_for_what_attrail_toml_says(services: Services) -> None:
    before = {name: deployment(services, name) for name in names(services)}
    assert all(line.startswith("unchanged") for line in dry_run(services))
    prefect(services, "deploy", "--all")
    changed = dry_run(services)
    assert {line.strip().split(".")[0].split(":")[0] for line in changed if line.startswith(" ")} == {"parameters"}
    assert {name: deployment(services, name)["id"] for name in before} == {
        name: each["id"] for name, each in before.items()
    }
    services.run("deploy", "--config", str(services.folder / "policy/attrail.toml"), user="deployments")
    assert all(line.startswith("unchanged") for line in dry_run(services))


def names(services: Services) -> list[str]:
    said = dry_run(services)
    return [line.split()[-1] for line in said if "/" in line]


def test_the_automations_are_taken_by_the_server(services: Services, tmp_path: Path) -> None:
    for path in sorted(DEPLOY.glob("automations/*.yaml")):
        wanted = yaml.safe_load(path.read_text())
        file = tmp_path / path.name
        file.write_text(path.read_text().replace(BLOCK, block(services, wanted["name"])))
        prefect(services, "automation", "create", "--from-file", str(file))
        asked = {"automations": {"name": {"any_": [wanted["name"]]}}}
        (found,) = httpx.post(f"{services.prefect}/automations/filter", json=asked, timeout=30).json()
        assert found["trigger"]["expect"] == wanted["trigger"]["expect"]
        assert found["enabled"]


def block(services: Services, name: str) -> str:
    """A block that notifications could go through: to nowhere, as nothing is sent here."""
    program = (
        "import sys; from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block; "
        "print(Block(name='nowhere', url='http://127.0.0.1:9').save(sys.argv[1], overwrite=True))"
    )
    environment = services.environment(composed()["deployments"])
    done = subprocess.run(
        [sys.executable, "-c", program, f"for-{name}"], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.split()[-1]


def test_late_runs_are_handled_once_when_the_worker_is_back(services: Services) -> None:
    nightly = deployment(services, "attrail-audit-registry/nightly")
    now = datetime.now(UTC)
    span = {"start_time": (now - timedelta(days=NIGHTS)).isoformat(), "end_time": now.isoformat()}
    httpx.post(f"{services.prefect}/deployments/{nightly['id']}/schedule", json=span, timeout=30).raise_for_status()
    late = await_states(services, [each["id"] for each in nights(services)], {"Late"})
    assert len(late) == NIGHTS
    services.say(f"the worker was down for {NIGHTS} nights: {NIGHTS} runs are late")
    services.start("worker")
    found = await_states(services, [each["id"] for each in late], {"Completed", "Overtaken"})
    found.sort(key=lambda each: each["expected_start_time"])
    assert [each["state_name"] for each in found] == ["Overtaken"] * (NIGHTS - 1) + ["Completed"]
    services.say("the worker is back: " + ", ".join(f"{each['state_name']}" for each in found))


def nights(services: Services) -> list[dict[str, Any]]:
    """The nightly runs that were due by now."""
    now = datetime.now(UTC)
    every = runs(services, "attrail-audit-registry", begun=False)
    return [each for each in every if datetime.fromisoformat(each["expected_start_time"]) < now]


def await_states(services: Services, ids: list[str], wanted: set[str]) -> list[dict[str, Any]]:
    deadline = time.monotonic() + PATIENCE
    while True:
        found = [each for each in runs(services, "attrail-audit-registry", begun=False) if each["id"] in ids]
        if {each["state_name"] for each in found} <= wanted:
            return found
        told = [(each["state_name"], each["state"]["message"]) for each in found]
        assert time.monotonic() < deadline, (told, (services.folder / "worker.log").read_text()[-3000:])
        time.sleep(1)


def test_a_champion_and_records_in_both_journals(services: Services, scans: Scans) -> None:
    """Something to lose. Whether the explainers hold on a model trained for seconds does not matter here."""
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(services.mlflow)
    try:
        mlflow.set_experiment("training")
        log_version(train(Recipe(scans[:300], 0, 12, class_coded=False)), scans[IMAGES])
    finally:
        mlflow.set_tracking_uri(before)
    services.run(
        "baseline", "models:/digits/1", "--config", str(services.folder / "policy/attrail.toml"), status=(0, 3)
    )
    risk = {"ATTRAIL_SIGNING_KEY": str(services.folder / "risk"), "ATTRAIL_JOURNAL": ""}
    services.run("waive", "models:/digits/1", "--reason", "the first of its kind", "--by", "Ada Risk", **risk)
    services.run("gate", "models:/digits/1")


def test_a_backup_brings_all_of_it_back(services: Services, tmp_path: Path) -> None:
    look(services)
    end = health(services)["journal"]
    for name in ("mlflow", "prefect"):
        postgres(services, "pg_dump", "--format", "custom", "--file", str(tmp_path / f"{name}.dump"), name)
    for name in ("artifacts", "journal"):
        with tarfile.open(tmp_path / f"{name}.tgz", "w:gz") as archive:
            archive.add(services.folder / name, arcname=".")
    services.say("backed up the databases, the artifacts and the journal's folder")
    everything_is_lost(services)
    for name in ("mlflow", "prefect"):
        postgres(services, "pg_restore", "--clean", "--if-exists", "--dbname", name, str(tmp_path / f"{name}.dump"))
    with tarfile.open(tmp_path / "journal.tgz") as archive:
        archive.extractall(services.folder / "journal", filter="data")
    services.say("restored the databases and the journal's folder, but not the artifacts")
    start_again(services)
    assert "digits/1" in services.run("reconcile", "--policy", str(services.folder / "policy/gate.toml"), status=(2, 3))
    with tarfile.open(tmp_path / "artifacts.tgz") as archive:
        archive.extractall(services.folder / "artifacts", filter="data")
    services.say("restored the artifacts, too")
    look(services)
    assert health(services)["journal"] == end
    assert len(names(services)) == 5, "Prefect knows its deployments"
    assert all(line.startswith("unchanged") for line in dry_run(services))


def health(services: Services) -> dict[str, Any]:
    return dict(httpx.get(f"{services.mlflow}/attrail/health", timeout=30).raise_for_status().json())


def look(services: Services) -> None:
    """Both journals verified and every holder of an alias reconciled, as PLATFORM.md says."""
    trust = str(services.folder / "policy/gate.toml")
    database = f"postgresql://mlflow@127.0.0.1:{services.ports['postgres']}/mlflow"
    services.run("verify", database, "--trust", trust, PGPASSWORD=services.passwords["mlflow"])
    services.run("verify", str(services.folder / "journal/audits.jsonl"), "--trust", trust)
    assert "ok" in services.run("reconcile", "--policy", trust)


def postgres(services: Services, program: str, *words: str) -> None:
    """A program of PostgreSQL's as its superuser."""
    there = {"PGHOST": "127.0.0.1", "PGPORT": str(services.ports["postgres"]), "PGUSER": "postgres"}
    environment = os.environ | there | {"PGPASSWORD": services.passwords["postgres"]}
    done = subprocess.run([program, *words], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def everything_is_lost(services: Services) -> None:
    """The services end; databases, their owners, artifacts and journal go. A new Postgres is made in their place."""
    services.stop()
    for name in ("mlflow", "prefect"):
        postgres(services, "psql", "--command", f"DROP DATABASE {name} WITH (FORCE)", "--command", f"DROP ROLE {name}")
    for name in ("artifacts", "journal"):
        shutil.rmtree(services.folder / name)
        (services.folder / name).mkdir()
    make_databases(services, str(services.ports["postgres"]))
    services.say("lost: the databases with their owners, the artifacts, the journal's folder")


def start_again(services: Services) -> None:
    services.start("mlflow")
    services.start("prefect")
    services.await_health("mlflow", "/attrail/health")
    services.await_health("prefect", "/api/health")
