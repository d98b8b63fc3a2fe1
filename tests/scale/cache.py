"""A first and a second audit against one champion, by the command, each a process of its own."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import staged
from page import note, put, software, table

ATTRAIL = Path(sys.executable).parent / "attrail"


def measure_cache(folder: Path, images: int) -> None:
    place = staged.digits(folder, images, 4)
    first, second, again = (_audit(place, each) for each in ("2", "3", "3"))
    fresh = _audit(place, "4", "--fresh")
    rows = [
        ("first candidate: champion, its rehearsal and the candidate", first, 1.0),
        ("second candidate: the candidate alone", second, second / first),
        ("the second candidate again: nothing", again, again / first),
        ("another candidate, --fresh, calibrated before: champion and candidate", fresh, fresh / first),
    ]
    text = table(
        ("audit, and what it computes", "seconds", "of the first"), [(a, f"{b:.1f}", f"{c:.2f}x") for a, b, c in rows]
    )
    head = (
        f"`attrail audit`, a process each with Prefect's own server, {images} images of 64x64 pixels, the demo's "
        "network, three explainers, no noise floor."
    )
    tail = (
        f"Against an audit that computes champion and candidate but no rehearsal, the second is {second / fresh:.2f}x; "
        "starting Python, Prefect's server and the libraries is a part of all of them."
    )
    put({"A second audit": f"{head}\n\n{text}\n\n{tail}\n\n{software()}"})
    note("cache", {"first": first, "second": second, "again": again, "fresh": fresh, "images": images})
    print(text)


def _audit(place: staged.Staged, candidate: str, *more: str) -> float:
    kept = {key: value for key, value in os.environ.items() if not re.match("PREFECT_|MLFLOW_", key)}
    environment = kept | {"PREFECT_HOME": str(place.folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    command = [str(ATTRAIL), "audit", "--config", str(place.config), "--candidate", candidate, *more]
    started = time.monotonic()
    done = subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL)
    if done.returncode == 2:
        sys.exit("the audit failed")
    return time.monotonic() - started
