"""The stack of compose.yaml as a thing that can be hit: what dies is started again, as its restart policy does."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import mlflow
import psutil
from disks import mounted
from services import Services, cluster
from stack import Service, composed

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PACKAGES = ("explainers", "monitoring", "mlflow_plugin", "flows")
HEALTH = {"mlflow": "/attrail/health", "prefect": "/api/health", "worker": "/health"}
AUDITING = "attrail-audit/on-registration"
BUDGET = 3e8  # activations of a shard: small ones, so that there is something to hit
CONFIG = """
[registry]
model = "digits"
floor = ["2", "3", "4", "5", "6"]

[[slice]]
name = "validation"
source = "{slices}/validation.csv"

[[explainer]]
name = "gradcam"

[[explainer]]
name = "shap"
evaluations = 96

[policy]
resamples = 200
"""


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")  # Debian's package libfaketime


@dataclass
class RestartedServices(Services):
    """Every service that an audit needs, on a copy of the code: what is edited meanwhile changes no audit."""

    jumps: bool = False

    @contextlib.contextmanager
    def playing(self, *, small_disks: bool = False) -> Iterator[None]:
        """All services, until the block ends; with ``small_disks`` on file systems of their own, which can be full."""
        places = [self.folder / name for name in ("artifacts", "journal", "tmp", "databases")]
        with mounted(*places) if small_disks else contextlib.nullcontext():
            if small_disks:
                self.folder.chmod(0o711)  # Postgres' user goes through it
                tempfile.tempdir = str(places[-1])
            yield from self._playing()

    def _playing(self) -> Iterator[None]:
        for name in PACKAGES:
            shutil.copytree(ROOT / name, self.folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("faults/hold", "tmp"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.faults.joinpath("budget").write_text(str(BUDGET))
        self.faults.joinpath("trace.jsonl").touch()
        self.set_clock(0)
        text = CONFIG.format(slices=self.folder / "slices")
        (self.folder / "policy/attrail.toml").write_text(text)
        (self.folder / "policy/watch.toml").write_text(text + '\n[[slice]]\nname = "newest"\nsource = "none.csv"\n')
        with cluster(self):
            tempfile.tempdir = None
            try:
                self.start("mlflow")
                self.start("prefect")
                self.await_well("mlflow", "prefect")
                self.run(*self.command(composed()["deployments"])[1:], user="deployments")
                self.start("worker")
                self.await_well("worker")
                yield
            finally:
                self.stop()
                for each in self.strays():
                    with contextlib.suppress(psutil.NoSuchProcess):
                        each.kill()

    @property
    def faults(self) -> Path:
        return self.folder / "faults"

    @property
    def clock(self) -> Path:
        """By how many seconds the clock of the worker and its flows is wrong, where ``jumps`` is set."""
        return self.faults / "clock"

    def set_clock(self, seconds: int) -> None:
        """Make the worker's clock wrong by so much, at once."""
        fresh = self.clock.with_suffix(".new")
        fresh.write_text(f"{seconds:+d}")
        fresh.replace(self.clock)

    def environment(self, service: Service) -> dict[str, str]:
        found = super().environment(service)
        code = [str(self.folder / "code" / name) for name in PACKAGES]
        if service.name == "worker":
            code.insert(0, str(HERE / "inside"))
            found |= {"FAULTS": str(self.faults), "TMPDIR": str(self.folder / "tmp"), "OMP_NUM_THREADS": "1"}
            if self.jumps:
                found |= {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(self.clock)}
                found |= {"FAKETIME_CACHE_DURATION": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return found | {"PYTHONPATH": ":".join(code)}

    def await_well(self, *names: str) -> None:
        for name in names:
            self.await_health(name, HEALTH[name])

    def tree(self, name: str) -> list[psutil.Process]:
        """A service's process and all that it started, as a container holds them."""
        try:
            root = self.postmaster() if name == "postgres" else psutil.Process(self.running[name].pid)
            return [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def strays(self) -> list[psutil.Process]:
        """Processes of this services that outlived who started them."""
        own = str(self.faults)
        found = []
        for each in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if each.pid != os.getpid() and each.environ().get("FAULTS") == own:
                    found.append(each)
        return found

    def postmaster(self) -> psutil.Process:
        """Postgres' first process, found by its port."""
        port = str(self.ports["postgres"])
        for each in psutil.process_iter(["cmdline"]):
            line = each.info["cmdline"] or []
            if line and line[0].endswith("/postgres") and port in line:
                return each
        raise psutil.NoSuchProcess(0, msg="no postmaster listens")

    def kill_container(self, name: str) -> None:
        """Kill -9 of a service with all of its processes, and its start as the restart policy has it."""
        again = self.postmaster().cmdline() if name == "postgres" else []
        processes = self.tree(name) + (self.strays() if name == "worker" else [])
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(processes, timeout=20)
        if again:
            self.start_postgres(again)
        else:
            self.running[name].wait()
            self.start(name)

    def start_postgres(self, command: Sequence[str]) -> None:
        with (self.folder / "postgres.log").open("ab") as out:
            subprocess.Popen(
                command,
                user="postgres" if os.getuid() == 0 else None,
                stdout=out,
                stderr=out,
                cwd="/",
                start_new_session=True,
            )
        programs = Path(command[0]).parent
        ready = [str(programs / "pg_isready"), "-h", "127.0.0.1", "-p", str(self.ports["postgres"]), "-q"]
        deadline = time.monotonic() + 60
        while subprocess.run(ready, check=False).returncode:
            assert time.monotonic() < deadline, (self.folder / "postgres.log").read_text()
            time.sleep(0.1)

    def revive_postgres(self, command: Sequence[str]) -> None:
        """Start Postgres if it went down."""
        try:
            self.postmaster()
        except psutil.NoSuchProcess:
            self.start_postgres(command)

    def champion(self) -> str:
        return str(mlflow.MlflowClient(self.mlflow).get_model_version_by_alias("digits", "champion").version)

    def ask(self, path: str, content: Mapping[str, Any] | None = None) -> Any:
        """Prefect's answer; asked again while its server is away."""
        deadline = time.monotonic() + 120
        while True:
            try:
                address = f"{self.prefect}/{path}"
                got = (
                    httpx.get(address, timeout=30) if content is None else httpx.post(address, json=content, timeout=30)
                )
                return got.raise_for_status().json()
            except httpx.HTTPError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def begin_audit(self, candidate: str, experiment: str, runner: str = "threads") -> str:
        """Start an audit as a deployment's run, with an experiment of its own: nothing in it was computed before."""
        deployment = self.ask(f"deployments/name/{AUDITING}")
        config = deployment["parameters"]["config"]
        config = config | {"registry": config["registry"] | {"candidate": candidate, "experiment": experiment}}
        config["run"] = {"runner": runner, "workers": 2 if runner == "processes" else None}
        made = self.ask(f"deployments/{deployment['id']}/create_flow_run", {"parameters": {"config": config}})
        return str(made["id"])

    def state(self, run: str) -> tuple[str, str]:
        """Kind and message of a flow run's state."""
        state = self.ask(f"flow_runs/{run}")["state"]
        return state["type"], state.get("message") or ""

    def give_up(self, run: str) -> None:
        """Mark a run whose process died unseen as crashed, as whoever watches its heartbeat does."""
        state = {"state": {"type": "CRASHED", "message": "its worker was killed"}, "force": True}
        self.ask(f"flow_runs/{run}/set_state", state)


def interrupt_cleanly() -> None:
    """Let a killed suite end its servers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
