"""The stack of ``deploy/compose.yaml`` on this machine: its own commands, on free ports, each in a process group.

Only what Docker provides is put in by hand: host names become 127.0.0.1, volumes and secrets become folders.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from cryptography.fernet import Fernet
from gated_server import KEPT, _postgresql_programs, free_port
from stack import DEPLOY, Service, composed

from attrail_mlflow.signing.keys import key_id, new_key, read_public
from digits import Scans, write_slice

PATIENCE = 240.0  # seconds until a service must answer, on a machine that does other things as well
IMAGES = slice(300, 364)  # of the scans: the slice that audits look at
EXPLAINERS = """
[[explainer]]
name = "gradcam"

[[explainer]]
name = "shap"
evaluations = 96
"""
OWNER = "postgres"  # Debian's user, who runs the cluster when this is root
KEYS = {"audit": "secrets/audit-key", "gate": "secrets/gate-key", "risk": "risk"}
ALWAYS = {  # what the image sets
    "DO_NOT_TRACK": "1",
    "GOMP_SPINCOUNT": "1000",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "NO_PROXY": "127.0.0.1",
}


@dataclass
class Services:
    """The services, where they are, and how long each thing took."""

    folder: Path
    ports: dict[str, int] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    begun: float = field(default_factory=time.monotonic)

    @classmethod
    def set_up(cls, folder: Path) -> "Services":
        """Folders, keys and policies, as PLATFORM.md says to make them."""
        ports = {name: free_port() for name in ("postgres", *composed())}
        passwords = {name: secrets.token_hex(16) for name in ("postgres", "mlflow", "prefect", "hook")}
        services = cls(folder, ports, passwords | {"fernet": Fernet.generate_key().decode()})
        for name in ("secrets", "policy/keys", "artifacts", "journal", "inbox", "slices"):
            (folder / name).mkdir(parents=True)
        (folder / "secrets/webhook-secret").write_text(services.passwords["hook"])
        services._write_policies()
        return services

    def show_digits(self, scans: Scans) -> None:
        """The slice, and the example's attrail.toml, watch.toml and policy.toml, about the digits."""
        write_slice(scans[IMAGES], self.folder / "slices")
        for name in ("attrail.toml", "watch.toml"):
            path = self.folder / "policy" / name
            path.write_text(path.read_text().replace('model = "classifier"', 'model = "digits"') + EXPLAINERS)
        policy = self.folder / "policy/policy.toml"
        policy.write_text(policy.read_text().replace("resamples = 2000", "resamples = 400"))

    @property
    def mlflow(self) -> str:
        return f"http://127.0.0.1:{self.ports['mlflow']}"

    @property
    def prefect(self) -> str:
        return f"http://127.0.0.1:{self.ports['prefect']}/api"

    def here(self, text: str) -> str:
        """A word of compose.yaml as it is on this machine."""
        for name in self.ports:
            text = text.replace(f"{name}:{self.inside(name)}", f"127.0.0.1:{self.ports[name]}")
        for inside, outside in (("/etc/attrail/", "policy"), ("/run/secrets/", "secrets")):
            text = text.replace(inside, f"{self.folder / outside}/")
        for name in ("artifacts", "journal", "inbox", "slices"):
            text = text.replace(f"/{name}/", f"{self.folder / name}/")
        return {"0.0.0.0": "127.0.0.1", "/artifacts": str(self.folder / "artifacts")}.get(text, text)

    def inside(self, name: str) -> int | None:
        """The port on which a service listens in its container."""
        return 5432 if name == "postgres" else composed()[name].port

    def command(self, service: Service) -> list[str]:
        program, *words = service.command
        words = [str(self.ports[service.name]) if word == str(service.port) else self.here(word) for word in words]
        return [str(Path(sys.executable).with_name(program)), *words]

    def environment(self, service: Service) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key in KEPT}
        kept["PATH"] = f"{Path(sys.executable).parent}:{kept['PATH']}"
        home = self.folder / "home" / service.name
        home.mkdir(parents=True, exist_ok=True)
        stated = {name: self.here(value) for name, value in service.environment.items() if value}
        own = {"HOME": str(home), "PREFECT_HOME": str(home / ".prefect"), "PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1"}
        own |= {"PREFECT_WORKER_WEBSERVER_PORT": str(self.ports["worker"]), "PREFECT_WORKER_QUERY_SECONDS": "2"}
        if "PGPASSWORD" in service.environment:
            own["PGPASSWORD"] = self.passwords[service.name]
        if "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY" in service.environment:
            own["MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"] = self.passwords["fernet"]
            own["MLFLOW_WEBHOOK_CACHE_TTL"] = "1"  # else a new webhook may be unknown for a minute
        return kept | ALWAYS | stated | own

    def open(self, *, working: bool = True) -> None:
        """Start every service when those it depends on are well; without the worker and the receiver if told so."""
        self.start("mlflow")
        self.start("prefect")
        self.await_health("mlflow", "/attrail/health")
        self.await_health("prefect", "/api/health")
        self.run(*self.command(composed()["deployments"])[1:], user="deployments")
        if working:
            self.start("worker")
            self.start("receiver")
            self.await_health("worker", "/health")
            self.await_health("receiver", "/health")

    def start(self, name: str) -> None:
        service = composed()[name]
        with (self.folder / f"{name}.log").open("ab") as out:
            self.running[name] = subprocess.Popen(
                self.command(service),
                env=self.environment(service),
                cwd=self.folder / "home" / name,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def await_health(self, name: str, path: str) -> None:
        """Wait until a service answers as its healthcheck asks."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{self.ports[name]}{path}", timeout=10).status_code == httpx.codes.OK:
                    break
            text = (self.folder / f"{name}.log").read_text()
            assert self.running[name].poll() is None, text
            assert time.monotonic() < deadline, text
            time.sleep(0.5)
        self.say(f"{name} answers at {path}")

    def say(self, what: str) -> None:
        """A line of the log, with the seconds since the beginning."""
        self.log.append(f"{time.monotonic() - self.begun:6.1f} s  {what}")
        print(self.log[-1], flush=True)

    def run(self, *words: str, status: int | tuple[int, ...] = 0, user: str = "worker", **more: str) -> str:
        """A command of attrail as typed where a service runs; what it printed. It must end with (one of) these."""
        expected = (status,) if isinstance(status, int) else status
        command = [str(Path(sys.executable).with_name("attrail")), *words]
        environment = self.environment(composed()[user]) | more
        done = subprocess.run(
            command, env=environment, cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode in expected, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        shown = (done.stdout + done.stderr).strip().splitlines()
        self.say(
            f"$ attrail {' '.join(words)}  [{done.returncode}]\n" + "\n".join(f"          {line}" for line in shown)
        )
        return done.stdout + done.stderr

    def stop(self) -> None:
        for process in reversed(self.running.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def _write_policies(self) -> None:
        for name, place in KEYS.items():
            new_key(self.folder / place)
            public = (self.folder / f"{place}.pub").read_bytes()
            (self.folder / f"policy/keys/{name}.pub").write_bytes(public)
        for path in DEPLOY.glob("policy/*.toml"):
            (self.folder / "policy" / path.name).write_text(self.here(path.read_text()))
        gate = self.folder / "policy/gate.toml"
        text = gate.read_text()
        for digit, name in enumerate(KEYS):
            public = (self.folder / f"policy/keys/{name}.pub").read_bytes()
            text = text.replace("sha256:" + str(digit) * 64, key_id(read_public(public, name)))
        gate.write_text(text)


@contextlib.contextmanager
def cluster(services: Services) -> Iterator[None]:
    """A PostgreSQL cluster that asks for passwords, with the databases that ``databases.sh`` makes."""
    programs, port = _postgresql_programs(), str(services.ports["postgres"])
    home = Path(tempfile.mkdtemp(prefix="attrail-pg-"))  # where its user can go
    user = OWNER if os.getuid() == 0 else None
    (home / "password").write_text(services.passwords["postgres"])
    if user:
        subprocess.run(["chown", "-R", user, str(home)], check=True)
    auth = ["-U", "postgres", "-A", "scram-sha-256", "--pwfile", f"{home}/password", "-E", "UTF8"]
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home}"
    try:
        _as(user, programs / "initdb", "-D", f"{home}/data", *auth)
        _as(user, programs / "pg_ctl", "-D", f"{home}/data", "-o", options, "-l", f"{home}/log", "-w", "start")
        make_databases(services, port)
        services.say("postgres has the databases of databases.sh")
        yield
    finally:
        _as(user, programs / "pg_ctl", "-D", f"{home}/data", "-m", "immediate", "stop")
        shutil.rmtree(home)


def make_databases(services: Services, port: str) -> None:
    names: Mapping[str, str] = {"MLFLOW_DATABASE_PASSWORD": "mlflow", "PREFECT_DATABASE_PASSWORD": "prefect"}
    there = {variable: services.passwords[name] for variable, name in names.items()}
    there |= {"PGHOST": "127.0.0.1", "PGPORT": port, "PGPASSWORD": services.passwords["postgres"]}
    script = str(DEPLOY / "postgres/databases.sh")
    subprocess.run([script], env=os.environ | there, check=True, stdout=subprocess.DEVNULL, timeout=120)


def _as(user: str | None, *command: str | Path) -> None:
    subprocess.run(
        [str(part) for part in command], user=user, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=120
    )
