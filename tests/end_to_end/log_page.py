"""What the story printed, as a page: places and addresses of this machine as compose.yaml names them, ids as words."""

import os
import platform
import re
from pathlib import Path

from services import Services

HEAD = """# The whole thing for real, from beginning to end

Written by `pytest -s tests/end_to_end/story.py --page deploy/END_TO_END.md`, which ran the services of `compose.yaml`
by their own commands on loopback, with PostgreSQL, on {cores} cores ({machine}). Seconds since the beginning; places
are those inside the containers, ids are words.

```text
{log}
```
"""
IDS = (
    (r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "FLOW-RUN"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b[0-9a-f]{32}\b", "MLFLOW-RUN"),
    (r"\b[0-9a-f]{12,40}\b", "DIGEST"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(Z|[+]00:00)?", "TIME"),
)


def write_page(services: Services, path: Path) -> None:
    """Write the log of a services."""
    log = masked(services, "\n".join(services.log))
    path.write_text(HEAD.format(cores=os.cpu_count(), machine=platform.machine(), log=log), encoding="utf-8")


def masked(services: Services, text: str) -> str:
    """A text in which nothing is this machine's."""
    for outside, inside in (("policy", "/etc/attrail"), ("secrets", "/run/secrets")):
        text = text.replace(str(services.folder / outside), inside)
    text = text.replace(f"{services.folder}/", "/").replace(platform.node(), "HOST")
    for name, port in services.ports.items():
        text = text.replace(f"127.0.0.1:{port}", f"{name}:{services.inside(name)}")
    for pattern, word in IDS:
        text = re.sub(pattern, word, text)
    return text
