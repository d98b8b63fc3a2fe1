"""Sign-off by a deployment: a real worker suspends the promotion, takes up others, and survives the answer."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.deployments import run_deployment
from prefect.settings import get_current_settings

from attrail_flows.configuration import read_config
from attrail_flows.deployment.deployments import read_deployments
from attrail_flows.deployment.work_pool import settle_pool

Run = Callable[..., tuple[int, str, str]]
PREFECT = Path(sys.executable).with_name("prefect")
POOL = "one-at-a-time"
NAME = "attrail-promote/with-sign-off"


@pytest.fixture
def client(prefect_server: None, workplace) -> Iterator[SyncPrefectClient]:
    """Prefect's server, with the packaged deployment of the promotion in a pool of its own."""
    config = workplace.config(explainers='[[explainer]]\nname = "gradcam"')
    (wanted,) = (each.to_runner(config) for each in read_deployments(only=["with-sign-off"], pool=POOL))
    with get_client(sync_client=True) as found:
        settle_pool(POOL, 1, found, dry_run=False)
        wanted.apply()
        yield found


@pytest.fixture
def worker(client: SyncPrefectClient, key: Path, witness: Path, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as compose.yaml starts it, which signs, in a process group of its own."""
    settings = {"PREFECT_API_URL": str(get_current_settings().api.url), "PREFECT_HOME": str(tmp_path / "prefect")}
    quick = {"PREFECT_WORKER_QUERY_SECONDS": "1", "ATTRAIL_JOURNAL": str(tmp_path / "journal.jsonl")}
    process = subprocess.Popen(
        [PREFECT, "worker", "start", "--pool", POOL, "--type", "process"],
        env=os.environ | settings | quick,
        cwd=tmp_path,
        stdout=(tmp_path / "worker.log").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    yield process
    os.killpg(process.pid, signal.SIGKILL)  # a polite end takes the worker up to a minute, and nothing is left to save
    process.wait(timeout=60)


def awaited(client: SyncPrefectClient, run: FlowRun, wanted: StateType, log: Path) -> State:
    for _ in range(900):
        state = client.read_flow_run(run.id).state
        assert state is not None
        if state.type is wanted:
            return state
        assert not state.is_final(), (state, log.read_text()[-4000:])
        time.sleep(0.2)
    raise AssertionError(log.read_text()[-4000:])


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_promotion_that_waits_holds_up_nobody_and_goes_on_when_answered_at_once(
    attrail: Run, client: SyncPrefectClient, worker: subprocess.Popen[bytes], workplace, witness: Path, tmp_path: Path
) -> None:
    """Nor is any process of the worker that opens a model told where the key is."""
    asked = {"config": read_config(workplace.folder / "attrail.toml").model_dump(mode="json", by_alias=True)}
    asked |= {"alias": "canary", "candidate": "7"}
    log, before = tmp_path / "worker.log", len(workplace.runs())
    first, second = (run_deployment(NAME, parameters=asked, timeout=0, as_subflow=False) for _ in range(2))
    for run in (first, second):
        awaited(client, run, StateType.PAUSED, log)
    answer = ("--approve", "--by", "Ada Lovelace", "--why", "looked at overlays")
    assert attrail("signoff", second.id, *answer)[0] == 0
    assert awaited(client, second, StateType.COMPLETED, log).name == "Promoted"
    assert worker.poll() is None, log.read_text()[-4000:]
    assert client.read_flow_run(first.id).state.type is StateType.PAUSED
    assert len(workplace.runs()) - before == 2, "each promotion's audit was made once"
    journal = (tmp_path / "journal.jsonl").read_text()
    assert journal.count('"sign-off"') == 1
    assert {len(line.split()) for line in witness.read_text().splitlines()} == {1}, "a process number and no variable"
    registry = mlflow.MlflowClient(workplace.tracking_uri)
    assert registry.get_model_version_by_alias("digits", "canary").version == 7
    registry.delete_registered_model_alias("digits", "canary")
    client.delete_flow_run(first.id)
