"""A real ``mlflow server`` with the gate in it, in a process group of its own, on a port of this machine only."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from werkzeug.security import generate_password_hash

ADMIN = ("admin", "correct horse battery staple")
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "a key for sessions of tests",
    "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN[1],
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_ALLOWED_HOST_ADDRESSED_ARTIFACT_SCHEMES": "mlflow-artifacts",  # for an attack that MLflow stops by default
}
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "VIRTUAL_ENV")


@dataclass(frozen=True)
class Setting:
    """How a server is run: MLflow's application, the program that serves it, the database, how many workers."""

    app: str | None = None
    program: str = "uvicorn"
    database: str = "sqlite"
    workers: int = 1
    gated: bool = True

    @property
    def label(self) -> str:
        return f"{self.app or 'plain'}-{self.program}-{self.database}-{self.workers}" + ("" if self.gated else "-open")

    @property
    def login(self) -> tuple[str, str] | None:
        return ADMIN if self.app == "basic-auth" else None


@dataclass(frozen=True)
class Server:
    """A running server: its address, its process and the folder it keeps its files in."""

    address: str
    process: subprocess.Popen[bytes]
    folder: Path
    log: Path
    login: tuple[str, str] | None = None

    def stop(self, how: int = signal.SIGTERM) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, how)
        self.process.wait(timeout=60)


@dataclass(frozen=True)
class Place:
    """Where servers run: their files, their database, the gate's policy."""

    folder: Path
    database_uri: str
    policy: Path
    more: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @contextlib.contextmanager
    def running(self, setting: Setting) -> Iterator[Server]:
        """A server until the block ends; its log is shown when it does not start."""
        server = self.start(setting)
        try:
            wait_for(server)
            if server.login:
                self._hash_quickly(server.login)
            yield server
        finally:
            server.stop()

    def _hash_quickly(self, login: tuple[str, str]) -> None:
        """MLflow's hash of a password takes longer than all else that a request does, and the suite sends thousands."""
        quick = generate_password_hash(login[1], method="pbkdf2:sha256:1")
        with contextlib.closing(sqlite3.connect(self.folder / "auth.db", timeout=60)) as users, users:
            changed = users.execute("UPDATE users SET password_hash = ? WHERE username = ?", (quick, login[0]))
            assert changed.rowcount == 1

    def start(self, setting: Setting) -> Server:
        port = free_port()
        log = self.folder / f"server-{port}.log"
        command = self.command(setting, port)
        with log.open("wb") as out:
            process = subprocess.Popen(
                command, env=self.environment(), stdout=out, stderr=out, cwd=self.folder, start_new_session=True
            )
        return Server(f"http://127.0.0.1:{port}", process, self.folder, log, setting.login)

    def command(self, setting: Setting, port: int) -> list[str]:
        registry = f"attrail+{self.database_uri}" if setting.gated else self.database_uri
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
        command += ["--backend-store-uri", self.database_uri, "--registry-store-uri", registry]
        command += ["--artifacts-destination", str(self.folder / "artifacts"), "--workers", str(setting.workers)]
        command += ["--app-name", setting.app] if setting.app else []
        command += ["--gunicorn-opts", "--timeout 60"] if setting.program == "gunicorn" else []
        return command

    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if key in KEPT}
        auth = self.folder / "auth.ini"
        if not auth.exists():
            auth.write_text(
                f"[mlflow]\ndefault_permission = MANAGE\ndatabase_uri = sqlite:///{self.folder}/auth.db\n"
                f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
                "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
            )
        own = {"ATTRAIL_GATE_POLICY": str(self.policy), "MLFLOW_AUTH_CONFIG_PATH": str(auth)}
        return kept | QUIET | own | dict(self.more)


@contextlib.contextmanager
def database(kind: str, folder: Path) -> Iterator[str]:
    """The address of a new database: an SQLite file, or a PostgreSQL cluster that lives as long as the block."""
    if kind == "sqlite":
        yield f"sqlite:///{folder / 'mlflow.db'}"
        return
    with postgresql() as address:
        yield address


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL cluster of one's own. It refuses to run as root, so then it runs as its package's user."""
    user = "postgres" if os.getuid() == 0 else None
    home = Path(tempfile.mkdtemp(prefix="attrail-pg-"))
    if user:
        subprocess.run(["chown", "-R", user, str(home)], check=True)
    programs, port = _postgresql_programs(), free_port()
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home}"
    start = [programs / "pg_ctl", "-D", home / "data", "-o", options, "-l", home / "log", "-w", "start"]
    try:
        _run_as(user, [programs / "initdb", "-D", home / "data", "-U", "mlflow", "-A", "trust", "-E", "UTF8"])
        _run_as(user, start)
        yield f"postgresql://mlflow@127.0.0.1:{port}/postgres"
    finally:
        _run_as(user, [programs / "pg_ctl", "-D", home / "data", "-m", "immediate", "stop"])
        subprocess.run(["rm", "-rf", str(home)], check=True)


def _postgresql_programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    assert found, "no PostgreSQL found: apt-get install postgresql"
    return found[-1].parent


def _run_as(user: str | None, command: list[str | Path]) -> None:
    subprocess.run(
        [str(part) for part in command], user=user, check=True, cwd="/", stdout=subprocess.DEVNULL, timeout=120
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(server: Server) -> None:
    deadline = time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(f"{server.address}/health", timeout=2).read()
            return
        except OSError:
            assert server.process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.25)
