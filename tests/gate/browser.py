"""MLflow's own user interface in headless Chromium: the refusal as a person sees it, and the report. Writes PNG files.

    .venv/bin/python tests/gate/browser.py FOLDER

Needs ``chromium`` (apt-get install chromium). The browser is driven over its DevTools protocol.
"""

import argparse
import base64
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gated_server import Place, Setting, database, free_port
from websockets.sync.client import ClientConnection, connect
from workshop import Workshop, write_policy

SIZE = "1400,1000"


@dataclass
class Page:
    """One tab of a browser."""

    socket: ClientConnection
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def run(self, script: str) -> Any:
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)

    def wait(self, script: str, seconds: float = 60) -> Any:
        """What a script gives once it gives anything."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.run(script)
            if found:
                return found
            time.sleep(0.3)
        raise AssertionError(f"never true: {script}\n{self.run('document.body.innerText')}")

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def key(self, name: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=name, code=name, windowsVirtualKeyCode=code)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def browser() -> Iterator[Page]:
    program = shutil.which("chromium")
    assert program, "no chromium found: apt-get install chromium"
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="attrail-chromium-", ignore_cleanup_errors=True) as profile:
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        words += [f"--remote-debugging-port={port}", f"--window-size={SIZE}", "about:blank"]
        process = subprocess.Popen([program, *words], stderr=subprocess.DEVNULL)
        try:
            with connect(_address(port), max_size=None) as socket:
                yield Page(socket)
        finally:
            process.terminate()
            process.wait(timeout=30)


def _address(port: int) -> str:
    for _ in range(120):
        try:
            tabs = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=2).read())
            return next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        except (OSError, StopIteration):
            time.sleep(0.5)
    raise AssertionError("chromium does not answer")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="attrail-gate-") as scratch:
        policy, keys = write_policy(Path(scratch) / "policy")
        with database("sqlite", Path(scratch)) as address:
            place = Place(Path(scratch), address, policy)
            with place.running(Setting("attrail")) as server, browser() as page:
                refused(Workshop(place, keys, server.address), page, folder)
    return 0


def refused(workshop: Workshop, page: Page, folder: Path) -> None:
    """A person gives the alias to a version that nobody audited."""
    workshop.need("registered-models/create", name="digits")
    champion = workshop.champion("digits")
    candidate = workshop.version("digits")
    page.open(f"{workshop.address}/#/models/digits/versions/{candidate.version}")
    time.sleep(8)
    page.picture(folder / "version.png")
    print(page.run("document.body.innerText"))
    print(page.run("[...document.querySelectorAll('button')].map(b => b.outerHTML.slice(0, 300)).join('\\n')"))
    assert workshop.holder("digits") == champion.version


if __name__ == "__main__":
    sys.exit(main())
