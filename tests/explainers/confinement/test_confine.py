"""The confinement, tried in processes of their own: what is refused, and what Python and torch need is not."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BEGIN = """
import ctypes, errno, json, os, socket, subprocess, sys, threading
from pathlib import Path
sys.path[:] = {path!r}
from attrail_explainers.confinement.confine import confine, limit
out, outside = Path({out!r}), Path({outside!r})
{before}
found = {{}}
confinement = confine(out, [Path({readable!r})])
def tried(name, act):
    try:
        found[name] = ["done", str(act())]
    except Exception as error:
        found[name] = [type(error).__name__, str(error)]
"""


@pytest.fixture
def confined(tmp_path: Path) -> Any:
    """Runs lines in a confined process; what they found, and what confined them."""

    def run(lines: str, before: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
        for name in ("out", "outside", "readable"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "there.txt").write_text("there")
        paths = {name: str(tmp_path / name) for name in ("out", "outside", "readable")}
        own = [each for each in sys.path if "attrail" in each or "python" in each or "explainers" in each]
        code = BEGIN.format(path=own, before=before, **paths) + lines
        code += "\nprint(json.dumps([found, {'in_force': confinement.in_force, 'lacking': confinement.lacking}]))"
        done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found, confinement = json.loads(done.stdout)
        return found, confinement

    return run


def test_files_are_written_beneath_the_output_folder_alone_and_read_where_they_must_be(confined: Any) -> None:
    found, confinement = confined(
        """
tried("own", lambda: (out / "new.txt").write_text("new"))
tried("folder", lambda: (out / "folder").mkdir())
tried("own again", lambda: (out / "new.txt").read_text())
tried("remove", lambda: (out / "new.txt").unlink())
tried("given", lambda: (Path({readable}) / "there.txt").read_text())
tried("null", lambda: open(os.devnull, "w").write("x"))
tried("library", lambda: Path(json.__file__).read_bytes()[:0])
for name, act in {{
    "write": lambda: (outside / "there.txt").write_text("moved"), "new": lambda: (outside / "new.txt").write_text("x"),
    "remove": lambda: (outside / "there.txt").unlink(), "read": lambda: (outside / "there.txt").read_text(),
    "list": lambda: os.listdir(outside), "given": lambda: (Path({readable}) / "there.txt").write_text("moved"),
    "truncate": lambda: os.truncate(outside / "there.txt", 0), "mode": lambda: os.chmod(outside / "there.txt", 0),
    "times": lambda: os.utime(outside / "there.txt", (0, 0)), "link": lambda: os.symlink(outside, out / "link"),
    "pipe": lambda: os.mkfifo(out / "pipe"), "move": lambda: os.rename(out / "there.txt", outside / "moved.txt"),
    "hard link": lambda: os.link(Path({readable}) / "there.txt", out / "hard"),
    "parent": lambda: Path(f"/proc/{{os.getppid()}}/environ").read_bytes(),
}}.items():
    tried("refused: " + name, act)
""".format(readable="str(outside.parent / 'readable')")
    )
    assert not confinement["lacking"]
    refused = {name: kind for name, (kind, _) in found.items() if name.startswith("refused: ")}
    allowed = {name: kind for name, (kind, _) in found.items() if name not in refused}
    assert set(allowed.values()) == {"done"}, found
    assert len(refused) == 14
    assert set(refused.values()) <= {"PermissionError", "OSError"}, found


def test_there_are_no_sockets_no_other_processes_and_no_way_back(confined: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        found, _ = confined(f"""
import resource
tried("connect", lambda: socket.create_connection(("127.0.0.1", {server.getsockname()[1]}), timeout=5))
tried("pair", socket.socketpair)
tried("unix", lambda: socket.socket(socket.AF_UNIX))
tried("program", lambda: subprocess.run(["/bin/true"]))
tried("fork", os.fork)
tried("signal", lambda: os.kill(os.getppid(), 0))
tried("own limit", lambda: resource.getrlimit(resource.RLIMIT_CPU))
limit(2**30, 30, 2**20)
tried("limit", lambda: resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40)))
tried("other limit", lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE, (0, 0)))
tried("memory", lambda: len(bytearray(2**31)))
tried("long file", lambda: (out / "long").write_bytes(bytes(2**21)))
thread = threading.Thread(target=lambda: tried("in a thread", socket.socketpair))
thread.start(); thread.join()
""")
    assert found.pop("own limit")[0] == "done"
    assert found.pop("memory")[0] == "MemoryError"
    assert found.pop("long file")[0] == "OSError"
    assert found.pop("limit")[0] == "ValueError"
    assert len(found) == 8
    assert {kind for kind, _ in found.values()} == {"PermissionError"}, found


def test_every_call_on_the_list_is_refused_by_its_number(confined: Any) -> None:
    found, _ = confined("""
from attrail_explainers.confinement.system_calls import MACHINES, REFUSED
column = MACHINES[os.uname().machine][0]
libc = ctypes.CDLL(None, use_errno=True)
for name, numbers in REFUSED.items():
    if numbers[column] is not None:
        answer = libc.syscall(ctypes.c_long(numbers[column]), *[ctypes.c_long(-1)] * 6)
        found[name] = [answer, errno.errorcode[ctypes.get_errno()]]
""")
    assert len(found) > 50
    assert {tuple(each) for each in found.values()} == {(-1, "EPERM")}, found


def test_what_a_machine_cannot_give_is_said_and_the_rest_is_in_force(confined: Any) -> None:
    strange = "os.uname = lambda: type('Uname', (), {'machine': 'riscv64'})()"
    found, confinement = confined("tried('write', lambda: (outside / 'x').write_text('x'))", before=strange)
    (lacking,) = confinement["lacking"]
    assert lacking.startswith("system calls")
    assert "riscv64" in lacking
    assert found["write"][0] == "PermissionError"
    assert any(each.startswith("files: ") for each in confinement["in_force"])
