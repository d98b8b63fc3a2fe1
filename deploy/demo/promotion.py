"""The promotion story on the demo's models: refused, audited, promoted, weights swapped, refused. After ``make demo``.

    .venv/bin/python deploy/demo/promotion.py [--folder .promotion] [--port 5000] [--stay]

Works on a copy of the demo's registry, behind a real ``mlflow server`` with the gate in it. Every command is printed as
it was run, with what it printed, and must end as it should; mlflow_plugin/PROMOTION.md quotes it. ``--stay`` leaves the
server running until Ctrl-C, to look at it in a browser.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DEMO = Path.cwd() / ".demo"
PLACES = {  # where a registry notes absolute paths
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "model_versions": "storage_location",
    "logged_models": "artifact_location",
}
POLICY = """\
aliases = ["champion", "production"]
max_age_days = 30
journal_key = "keys/gate"
"""
SET_ALIAS = "import mlflow; mlflow.MlflowClient().set_registered_model_alias('digits', 'champion', '7')"
SWAP = "from pathlib import Path; Path('{}').open('ab').write(b'evil')"


@dataclass(frozen=True)
class Terminal:
    """Runs commands in a folder and shows them; ``environment`` is what the user exported.

    ``wrong`` is what did not end or speak as it must.
    """

    folder: Path
    environment: Mapping[str, str]
    wrong: list[str] = field(default_factory=list)

    def run(self, *words: str, status: int = 0, said: str = "", **more: str) -> str:
        """Show a command and what it printed."""
        exports = "".join(f"{name}={value} " for name, value in more.items())
        print(f"\n$ {exports}{' '.join(map(_quoted, words))}", flush=True)
        done = subprocess.run(
            words, cwd=self.folder, env={**self.environment, **more}, text=True, capture_output=True, check=False
        )
        shown = _shown(done.stdout + done.stderr)
        print(shown, flush=True)
        if done.returncode != status or said not in shown:
            self.wrong.append(f"expected status {status} and {said!r}, got status {done.returncode}: {words}")
        return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path(".promotion"), help="Made anew for the story.")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--stay", action="store_true", help="Leave the server running at the end.")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # and so is the server
    folder = given.folder.resolve()
    if not (DEMO / "mlflow.db").exists():
        sys.exit("there is no .demo here: run make demo first")
    copy_registry(DEMO, folder)
    text = (DEMO / "attrail.toml").read_text()
    (folder / "attrail.toml").write_text(text.replace('tracking_uri = "sqlite:///mlflow.db"\n', ""))
    terminal = Terminal(folder, environment(folder, given.port))
    make_keys(terminal)
    with server(folder, terminal.environment, given.port):
        story(terminal, folder, given.port)
        if terminal.wrong:
            sys.exit("please report this: " + "; ".join(terminal.wrong))
        if given.stay:
            print(f"\nthe server stays at http://127.0.0.1:{given.port} until Ctrl-C", flush=True)
            with contextlib.suppress(KeyboardInterrupt):
                signal.pause()


def copy_registry(source: Path, folder: Path) -> None:
    """Copy a registry with its slices, unaudited, and let the copy point to its own files."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for name in ("artifacts", "slices"):
        shutil.copytree(source / name, folder / name)
    shutil.copy(source / "mlflow.db", folder)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        for table, column in PLACES.items():
            database.execute(f"UPDATE {table} SET {column} = replace({column}, ?, ?)", (str(source), str(folder)))  # noqa: S608
        database.execute("DELETE FROM model_version_tags WHERE key LIKE 'attrail.%'")  # its audits, unsigned


def environment(folder: Path, port: int) -> dict[str, str]:
    """What the user exported before the first command."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "GOMP_SPINCOUNT") if name in os.environ}
    return kept | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"http://127.0.0.1:{port}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "ATTRAIL_GATE_POLICY": "gate.toml",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "COLUMNS": "120",
    }


def make_keys(terminal: Terminal) -> None:
    """One key for the audits, one for the gate's own journal; the policy trusts both."""
    audit = terminal.run("attrail", "keys", "new", "keys/audit", "--owner", "nightly audits", "--may", "verdict")
    gate = terminal.run("attrail", "keys", "new", "keys/gate", "--owner", "the gate", "--may", "journal")
    (terminal.folder / "gate.toml").write_text(f"{POLICY}\n{audit}\n\n{gate}\n")
    terminal.run("cat", "gate.toml")


def story(terminal: Terminal, folder: Path, port: int) -> None:
    """The story itself, on version 7, an honest retrain, and version 8, a cheat."""
    audit = ("attrail", "audit", "--config", "attrail.toml", "--candidate")
    key = {"ATTRAIL_SIGNING_KEY": "keys/audit"}
    terminal.run("attrail", "gate", "models:/digits/7", "--alias", "champion", status=3, said="[missing]")
    terminal.run("python", "-c", SET_ALIAS, status=1, said="PERMISSION_DENIED")
    terminal.run(*audit, "7", said="PASS", **key)
    terminal.run("attrail", "gate", "models:/digits/7", "--alias", "champion", said="digits/7 is champion")
    terminal.run("python", "-c", SWAP.format(weights_of(folder, "7")))
    terminal.run("attrail", "gate", "models:/digits/7", "--alias", "champion", status=3, said="[wrong-bytes]")
    terminal.run("attrail", "reconcile", status=3, said="DOUBTFUL")
    terminal.run(*audit, "8", "--reference", "1", status=1, said="DRIFT", **key)
    terminal.run("attrail", "gate", "models:/digits/8", "--alias", "champion", status=1, said="[verdict-drift]")
    terminal.run("attrail", "verify", "sqlite:///mlflow.db", "--trust", "gate.toml", said="nothing is wrong")
    terminal.run("curl", "-s", f"http://127.0.0.1:{port}/attrail/health", said='"gate":"on"')


def weights_of(folder: Path, version: str) -> str:
    """The largest file of a version, as a path inside the folder."""
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "SELECT storage_location FROM model_versions WHERE name = 'digits' AND version = ?"
        (place,) = database.execute(query, (version,)).fetchone()
    files = [path for path in Path(place).rglob("*") if path.is_file()]
    return str(max(files, key=lambda path: path.stat().st_size).relative_to(folder))


@contextlib.contextmanager
def server(folder: Path, environment: Mapping[str, str], port: int) -> Iterator[None]:
    """MLflow's server with the gate in it, in a process group of its own."""
    words = ["mlflow", "server", "--port", str(port), "--app-name", "attrail", "--workers", "2"]
    words += ["--backend-store-uri", "sqlite:///mlflow.db", "--registry-store-uri", "attrail+sqlite:///mlflow.db"]
    print(f"\n$ {' '.join(words)} &", flush=True)
    own = {name: value for name, value in environment.items() if name != "MLFLOW_TRACKING_URI"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            words,
            cwd=folder,
            env=own | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, port, folder / "server.log")
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + 240
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2).read()
            return
        time.sleep(0.5)
    sys.exit(f"the server does not start:\n{log.read_text()}")


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word


def _shown(text: str) -> str:
    """What a terminal would show in the end: a line that was written over again and again as it was last."""
    return "\n".join(line.rsplit("\r", 1)[-1].rstrip() for line in text.splitlines()).strip("\n")


if __name__ == "__main__":
    main()
