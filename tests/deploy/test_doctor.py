"""``attrail doctor``: every check on something that is truly broken, and on the same made whole."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path

import pytest

from attrail_explainers.runtime.gpu import find_gpus
from attrail_flows.doctor import machine, servers, trail
from attrail_flows.doctor.result import DoctorResult, Level
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import Journal
from attrail_mlflow.signing.keys import key_id, new_key, read_public, read_signer

GATE = {"gate": "on", "policy_digest": "sha256:ab", "policy": {"aliases": ["champion"], "keys": []}}


def levels(found: Iterator[DoctorResult]) -> list[Level]:
    return [each.level for each in found]


def only(found: Iterator[DoctorResult]) -> DoctorResult:
    (each,) = found
    return each


def installed(folder: Path, name: str, number: str, *needs: str) -> None:
    """The metadata of a package, as an installation leaves it."""
    place = folder / f"{name}-{number}.dist-info"
    place.mkdir()
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}", *(f"Requires-Dist: {each}" for each in needs)]
    (place / "METADATA").write_text("\n".join(lines) + "\n")


def test_what_is_installed_here_works_together() -> None:
    assert levels(machine.packages()) == [Level.OK]


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [
        ("fastapi", "0.165.0", "attrail does not work with fastapi 0.165.0 (Prefect 3.8's server refuses JSON null"),
        ("sqlalchemy", "2.1.9", "attrail does not work with sqlalchemy 2.1.9 (Prefect 3.8's schedules never fire"),
        ("torch", "2.13.0", "torchvision does not work with torch 2.13.0 (the CPU wheel"),
    ],
)
def test_a_version_that_breaks_another_is_named(name: str, number: str, said: str, tmp_path: Path) -> None:
    installed(tmp_path, name, number)
    found = list(machine.packages([str(tmp_path), *sys.path]))
    assert {each.level for each in found} == {Level.WRONG}
    assert any(each.what.startswith(said) for each in found), found
    assert all(each.do.startswith("pip install") for each in found)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    installed(tmp_path, "attrail", "0.1.0", "prefect>=3.8", "unneeded; python_version < '3'")
    whats = [each.what for each in machine.packages([str(tmp_path)])]
    assert "attrail needs prefect, which is not installed" in whats
    assert "mlflow is not installed" in whats
    assert not any("unneeded" in what for what in whats)


def test_a_disk_without_room(tmp_path: Path) -> None:
    assert levels(machine.disk([tmp_path], room=1)) == [Level.OK]
    assert levels(machine.disk([tmp_path], room=2**62)) == [Level.WRONG]
    assert "cannot be looked at" in only(machine.disk([tmp_path / "gone"])).what


def test_a_gpu_that_torch_does_not_see(tmp_path: Path) -> None:
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module 580.00")
    seen = bool(find_gpus().names)
    assert levels(machine.gpu(tmp_path / "version")) == [Level.OK if seen else Level.WARNING]
    assert levels(machine.gpu(tmp_path / "none")) == [Level.OK]


Serve = Callable[..., str]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """A server that answers what it is told, with a clock that is ``late`` by so many seconds; its address."""
    running = []

    def start(answers: dict[str, str], late: float = 0.0, status: int = 200) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status if self.path in answers else 404)
                self.end_headers()
                self.wfile.write(answers.get(self.path, "no").encode())

            def date_time_string(self, timestamp: float | None = None) -> str:
                import time

                return super().date_time_string(time.time() - late)

            def log_message(self, *words: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for each in running:
        each.shutdown()
        each.server_close()


@pytest.mark.parametrize("check", [servers.prefect, servers.mlflow])
def test_a_server_that_is_not_there(check: Callable[..., Iterator[DoctorResult]]) -> None:
    found = only(check("http://127.0.0.1:9"))
    assert found.level == Level.WRONG
    assert "does not answer" in found.what
    assert levels(check(None)) == [Level.WARNING]


def test_a_server_of_another_release(serve: Serve) -> None:
    same = serve({"/version": version("mlflow"), "/admin/version": f'"{version("prefect")}"'})
    assert levels(servers.mlflow(same)) == levels(servers.prefect(same)) == [Level.OK]
    assert "is 2.9.1, here is" in only(servers.mlflow(serve({"/version": "2.9.1"}))).what
    assert "is no MLflow" in only(servers.mlflow(serve({"/version": "<html>welcome"}))).what
    assert "answers 401" in only(servers.mlflow(serve({"/version": "x"}, status=401))).what


@pytest.mark.parametrize(
    ("late", "level"), [(0, None), (-20, None), (60, Level.WARNING), (600, Level.WRONG), (-600, Level.WRONG)]
)
def test_clocks_that_differ(late: float, level: Level | None, serve: Serve) -> None:
    address = serve({"/version": version("mlflow")}, late)
    assert levels(servers.mlflow(address)) == [Level.OK, *([level] if level else [])]


def test_a_gate_that_is_off(serve: Serve) -> None:
    assert "the gate is on" in only(servers.gate(serve({"/attrail/health": json.dumps(GATE)}))).what
    assert levels(servers.gate(serve({"/version": "3"}))) == [Level.WRONG]
    assert levels(servers.gate(serve({"/attrail/health": "{}"}, status=500))) == [Level.WRONG]
    refusing = json.dumps({"gate": "refusing: this process has another policy than the one in force"})
    found = only(servers.gate(serve({"/attrail/health": refusing}, status=503)))
    assert (found.level, "has another policy than the one in force" in found.what) == (Level.WRONG, True)


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "audit")
    return tmp_path / "audit"


def policy_of(key: Path, may: str = '"verdict", "journal"') -> Path:
    """A file that trusts a key."""
    public = key.with_name(key.name + ".pub")
    found = key_id(read_public(public.read_bytes(), str(public)))
    path = key.with_name("gate.toml")
    path.write_text(f'[[key]]\nid = "{found}"\nfile = "{public.name}"\nmay = [{may}]\nowner = "worker"\n')
    return path


def test_a_key_that_everybody_can_read(key: Path) -> None:
    there = {"ATTRAIL_SIGNING_KEY": str(key)}
    assert levels(trail.signing_key(there, {})) == [Level.OK]
    key.chmod(0o644)
    found = only(trail.signing_key(there, {}))
    assert found.level == Level.WRONG
    assert "can be read by everybody" in found.what
    assert levels(trail.signing_key({}, {})) == [Level.WARNING]
    assert levels(trail.signing_key({"ATTRAIL_SIGNING_KEY": str(key) + "x"}, {})) == [Level.WRONG]


def test_a_key_that_the_gate_does_not_trust(key: Path) -> None:
    own, there = str(read_signer(key).public_key.keyid), {"ATTRAIL_SIGNING_KEY": str(key)}
    assert "which the gate trusts" in only(trail.signing_key(there, {own: ("verdict",)})).what
    assert levels(trail.signing_key(there, {own: ("waiver",)})) == [Level.WRONG]
    assert levels(trail.signing_key(there, {"sha256:00": ("verdict",)})) == [Level.WRONG]


def test_trusted_keys_that_were_exchanged(key: Path) -> None:
    path = policy_of(key)
    assert "worker for journal, verdict" in only(trail.trusted_keys({"ATTRAIL_TRUSTED_KEYS": str(path)})).what
    new_key(key.with_name("other"))
    key.with_name("audit.pub").write_bytes(key.with_name("other.pub").read_bytes())
    assert "holds the key" in only(trail.trusted_keys({"ATTRAIL_TRUSTED_KEYS": str(path)})).what
    path.write_text("")
    assert "trusts no [[key]]" in only(trail.trusted_keys({"ATTRAIL_TRUSTED_KEYS": str(path)})).what


def test_a_journal_that_was_altered(key: Path, tmp_path: Path) -> None:
    place = tmp_path / "audits.jsonl"
    there = {"ATTRAIL_JOURNAL": str(place), "ATTRAIL_TRUSTED_KEYS": str(policy_of(key))}
    assert "none yet" in only(trail.journal(there)).what
    for number in range(3):
        Journal(JournalFile(place), read_signer(key)).append(Event.POLICY, "worker", {"number": number})
    assert levels(trail.journal(there)) == [Level.OK]
    place.write_bytes(place.read_bytes().replace(b'"number":1', b'"number":9'))
    assert levels(trail.journal(there)) == [Level.WRONG]
    place.unlink()
    assert levels(trail.journal(there)) == [Level.WRONG]
    assert levels(trail.journal({})) == [Level.WARNING]


def doctor(**there: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own: Prefect keeps what the environment of this one said first."""
    ours = ("ATTRAIL_", "MLFLOW_TRACKING", "PREFECT_API")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    command = [str(Path(sys.executable).with_name("attrail")), "doctor"]
    return subprocess.run(command, env=inherited | there, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_says_a_line_for_each_and_ends_with_the_worst(serve: Serve, key: Path) -> None:
    answers = {"/version": version("mlflow"), "/attrail/health": json.dumps(GATE)}
    answers |= {"/api/admin/version": f'"{version("prefect")}"'}
    address = serve(answers)
    servers = {"MLFLOW_TRACKING_URI": address, "PREFECT_API_URL": f"{address}/api"}
    good = doctor(**servers)
    assert good.returncode == 0, good.stdout
    assert sum(line.startswith("ok") for line in good.stdout.splitlines()) >= 6, good.stdout
    key.chmod(0o604)
    bad = doctor(**servers, ATTRAIL_SIGNING_KEY=str(key))
    assert bad.returncode == 1
    assert "wrong     signing key" in bad.stdout
