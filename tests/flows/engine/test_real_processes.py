"""The command as a process of its own: over an MLflow server, without a network, and quick to say what it can do."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

PROGRAM = str(Path(sys.executable).parent / "attrail")
GUARD = """
import os, sys
allowed = ("127.0.0.1", "::1", "localhost", "0.0.0.0")
def note(*words):
    with open(os.environ["GUARD_LOG"], "a") as log:
        print(*words, file=log)
def guard(event, arguments):
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    host = host.decode() if isinstance(host, bytes) else host
    note("local" if host is None or host in allowed else "remote", host, sys.orig_argv)
note("process", sys.orig_argv)
sys.addaudithook(guard)
"""


def environment(folder: Path, **more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
    return kept | {"PREFECT_HOME": str(folder / "prefect"), "HOME": str(folder)} | more


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def mlflow_server(trained_registry: Path, tmp_path: Path) -> Iterator[str]:
    """A real ``mlflow server`` over the registry, in a process group of its own."""
    address = f"http://127.0.0.1:{(port := free_port())}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{trained_registry / 'mlflow.db'}"]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (tmp_path / "server.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environment(tmp_path, **quiet), stdout=log, stderr=log, start_new_session=True
        )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"{address}/health", timeout=2).read()
                break
            except OSError:
                assert process.poll() is None, (tmp_path / "server.log").read_text()
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def test_an_audit_over_http_with_no_step_trying_the_network(workplace, mlflow_server: str, tmp_path: Path) -> None:
    """The process, the Prefect server it starts and all their children run with a hook on every connection."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(GUARD)
    log = tmp_path / "connections"
    guarded = environment(tmp_path, PYTHONPATH=str(tmp_path / "hook"), GUARD_LOG=str(log))
    config = workplace.config(tracking_uri=mlflow_server)
    result = tmp_path / "result.json"
    command = [PROGRAM, "audit", "--config", str(config), "--candidate", "8", "--json", str(result)]
    done = subprocess.run(command, env=guarded, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 1, done.stderr
    assert json.loads(result.read_text())["verdict"] == "DRIFT"
    noted = log.read_text().splitlines()
    assert [line for line in noted if line.startswith("remote")] == []
    assert [line for line in noted if line.startswith("local")], "the hook saw no connection at all"
    assert [line for line in noted if line.startswith("process") and "uvicorn" in line], "it missed Prefect's server"
    client = mlflow.MlflowClient(mlflow_server)
    run = client.get_run(json.loads(result.read_text())["run_id"])
    assert run.info.status == "FINISHED"
    assert {each.path for each in client.list_artifacts(run.info.run_id, "attrail")} >= {"attrail/report.html"}


def test_help_answers_in_under_a_second() -> None:
    times = []
    for _ in range(3):
        started = time.monotonic()
        done = subprocess.run([PROGRAM, "--help"], capture_output=True, text=True, check=True)
        times.append(time.monotonic() - started)
    assert "audit" in done.stdout
    assert min(times) < 1


def test_an_unexpected_error_never_looks_like_a_verdict(workplace, tmp_path: Path) -> None:
    """Exit status 1 means DRIFT: a crash must end with 2."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(
        "import attrail_flows.configuration as c\ndef crash(*a): raise RuntimeError('boom')\nc.read_config = crash\n"
    )
    hooked = environment(tmp_path, PYTHONPATH=str(tmp_path / "hook"))
    command = [PROGRAM, "audit", "--config", str(workplace.config())]
    done = subprocess.run(command, env=hooked, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "RuntimeError: boom" in done.stderr
