"""``make gate-story``: PROMOTION.md's beginning, typed in order from a folder with a registry and nothing else."""

import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.settings import get_current_settings

import promotion

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROMOTION = (ROOT / "mlflow_plugin/PROMOTION.md").read_text(encoding="utf-8")
SECTION = PROMOTION.partition("\n## ")[0]
SHORT = README.partition("## Promote only what was audited")[2].partition("\n## ")[0]
BLOCK = re.compile(r"^```(toml|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN_ID = "$(sed -n 's/^MLflow run \\([0-9a-f]*\\),.*/\\1/p' printed.txt)"
CONFIG = """
[registry]
tracking_uri = "http://127.0.0.1:{port}"
model = "digits"
reference = "champion"
candidate = "8"
change = "retrain"
floor = ["2", "3", "4", "5"]

[[slice]]
name = "validation"
source = "slices/validation.csv"
limit = 32

[[explainer]]
name = "gradcam"

[policy]
resamples = 200
"""
STORY = [  # how each command begins, its exit status, what it prints
    ("keys new keys/audit", 0, ""),
    ("keys new keys/gate", 0, ""),
    ("keys new keys/ada", 0, ""),
    ("baseline models:/digits/1", 0, "baseline  digits/1"),
    ("gate models:/digits/1", 0, "promoted  digits/1 is champion"),
    ("gate models:/digits/7", 3, "REFUSED   digits/7 may not become champion: there is no signed statement"),
    ("audit --config attrail.toml --candidate 7", 0, "PASS: "),
    ("gate models:/digits/7", 0, "promoted  digits/7 is champion"),
    ("export", 0, "written: audit.zip"),
    ("verify audit.zip", 0, "nothing is wrong"),
    ("waive models:/digits/8", 0, "waived    digits/8 may become champion once"),
    ("gate models:/digits/8", 0, "promoted  digits/8 is champion"),
    ("reconcile", 0, "ok        digits/8 is champion by a signed waiver"),
    ("verify sqlite:///mlflow.db", 0, "nothing is wrong"),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def script(text: str, port: int) -> str:
    """The blocks of a page as one script that says what it runs and how that ended; the server is waited for."""
    lines = []
    for language, block in BLOCK.findall(text):
        if language == "toml":
            lines += [f"cat >> gate.toml <<'TOML'\n{block}TOML"]
            continue
        for line in block.replace(":5000", f":{port}").replace("RUN_ID", RUN_ID).splitlines():
            if line.startswith("mlflow server"):
                lines += [line.removesuffix("&") + "> server.log 2>&1 &"]
                lines += [f"until (: < /dev/tcp/127.0.0.1/{port}) 2> /dev/null; do sleep 0.5; done"]
            elif "attrail " in line:
                command = line.partition("#")[0].partition("attrail ")[2].strip()
                lines += [f"echo '$ {command.replace(chr(39), chr(34))}'", line, 'echo "? $?"']
            else:
                lines += [line]
    return "\n".join(lines)


def typed(text: str, folder: Path, port: int) -> list[tuple[str, int, str]]:
    """Run a page's blocks in a folder: every command of attrail, its exit status, what it printed."""
    kept = {name: os.environ[name] for name in ("HOME", "LANG", "TMPDIR", "PYTHONPATH") if name in os.environ}
    more = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MLFLOW_PORT": str(port),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "PREFECT_API_URL": str(get_current_settings().api.url),
        "PREFECT_HOME": str(folder / "prefect"),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
    }
    printed = folder / "printed.txt"
    with printed.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-c", script(text, port)],
            cwd=folder,
            env=kept | more,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        try:
            shell.wait(timeout=500)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGTERM)
            shell.wait(timeout=60)
    found = re.findall(r"^\$ (.*?)\n(.*?)^\? (\d+)$", printed.read_text(), re.MULTILINE | re.DOTALL)
    return [(command, int(status), said) for command, said, status in found]


@pytest.mark.timeout(600)
def test_the_story_runs_as_it_is_typed(trained_registry: Path, prefect_server: None, tmp_path: Path) -> None:
    folder, port = tmp_path / "new", free_port()
    promotion.copy_registry(trained_registry, folder)
    with contextlib.closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("DELETE FROM registered_model_aliases")
    (folder / "attrail.toml").write_text(CONFIG.format(port=port))
    done = typed(SECTION, folder, port)
    for (command, status, said), (begins, wanted, words) in zip(done, STORY, strict=True):
        assert command.startswith(begins)
        assert (status, words in said) == (wanted, True), f"$ attrail {command}\n{said}"
    quoted = re.search(r"^> attrail gate: (.*)$", SHORT, re.MULTILINE)
    assert quoted is not None
    assert quoted[1] in done[5][2]
