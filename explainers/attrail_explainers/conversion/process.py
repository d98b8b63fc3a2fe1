"""The confined process of a conversion: started with nothing of this one's, waited for, and ended in any case."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from attrail_explainers.confinement.confine import Confinement
from attrail_explainers.conversion.child import ANSWER
from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.excerpt import excerpt

BOOT = (
    "import json, sys; order = json.loads(sys.argv[1]); sys.path[:] = order['path']; "
    "from attrail_explainers.conversion.child import main; main(order)"
)
START = 180  # seconds for Python and torch to start, before the pickle's own time begins
KEPT = ("LD_LIBRARY_PATH", "LANG", "LC_ALL")  # what Python may need to find its libraries and read names
REPORT, SAID = 64 * 1024, 4096  # most bytes that are read of a report, and of the end of what was said
TO_LOG = "call model.eval() and log it in MLflow's default pt2 format where it was made"


@dataclass(frozen=True)
class Limits:
    """What a conversion may take: ``memory`` in bytes beside torch's own, ``seconds`` once torch has started."""

    memory: int = 8 * 2**30
    seconds: int = 600


def run(order: Mapping[str, Any], folder: Path, label: str, limits: Limits) -> Confinement:
    """What confined the process, once it has ended and left an answer in the output folder.

    Raises ConfigError where it could not be confined as ordered, and UnsupportedModelError when it did not answer.
    """
    with (folder / "said").open("w+b") as said, _started(order, said) as process:
        try:
            confinement = _reported(process, said, label)
            _require_confined(confinement, order, label)
            status = process.wait(limits.seconds)
        except subprocess.TimeoutExpired as error:
            raise UnsupportedModelError(
                f"model {label} was not converted within {limits.seconds} s: allow more with --seconds, if it is no "
                "endless loop"
            ) from error
        finally:
            process.kill()
        if status != 0 or not Path(order["out"], ANSWER).is_file():
            raise UnsupportedModelError(
                f"model {label}: the process that loads it {_end(status)}{_last(said)}; see whether it needs more "
                f"than {limits.memory / 2**30:g} GiB of memory (--memory), or {TO_LOG}"
            )
        return confinement


def _started(order: Mapping[str, Any], said: IO[bytes]) -> subprocess.Popen[bytes]:
    home = str(Path(order["out"], "home"))
    kept = {each: os.environ[each] for each in KEPT if each in os.environ}
    told = {"HOME": home, "TMPDIR": home, "PATH": os.defpath, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-I", "-B", "-c", BOOT, json.dumps(order)]
    return subprocess.Popen(  # noqa: S603 - this very Python, with code of our own
        command,
        env=kept | told,
        cwd=home,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
        start_new_session=True,
    )


def _reported(process: subprocess.Popen[bytes], said: IO[bytes], label: str) -> Confinement:
    """What the process says of its confinement, which it does before it opens the pickle."""
    late = threading.Timer(START, process.kill)
    late.start()
    try:
        report = process.stdout.read(REPORT) if process.stdout else b""
    finally:
        late.cancel()
    if not report:
        raise UnsupportedModelError(
            f"model {label} was not opened: the process for it {_end(process.wait())}{_last(said)} before it was "
            "confined; see whether torch can be imported here by python -I"
        )
    found = json.loads(report)
    return Confinement(tuple(found["in_force"]), tuple(found["lacking"]))


def _require_confined(confinement: Confinement, order: Mapping[str, Any], label: str) -> None:
    if confinement.lacking and not order["weaker"]:
        raise ConfigError(
            f"model {label} was not opened, for this machine cannot confine it: it lacks "
            f"{'; '.join(confinement.lacking)}; convert it on Linux 5.13 or later, x86_64 or aarch64, with Landlock "
            "and seccomp, or allow less with --weaker-confinement if you trust whoever logged it"
        )


def _end(status: int) -> str:
    if status >= 0:
        return f"ended with status {status} before it answered"
    known = {each.value: each.name for each in signal.Signals}
    return f"was ended by signal {known.get(-status, -status)}"


def _last(said: IO[bytes]) -> str:
    """The last line that a process said, in brackets."""
    size = said.seek(0, os.SEEK_END)
    said.seek(max(0, size - SAID))
    lines = said.read().decode("utf-8", errors="replace").split("\n")
    line = next((excerpt(each) for each in reversed(lines) if each.strip()), "")
    return f" ({line})" if line else ""
