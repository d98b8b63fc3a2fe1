"""Pictures of MLflow's own user interface on the promotion story: the refusal, and the report in the audit's run.

    .venv/bin/python deploy/demo/promotion.py --stay                       # in another terminal
    .venv/bin/python deploy/demo/promotion_pictures.py http://127.0.0.1:5000 mlflow_plugin/pictures

Needs ``chromium`` (apt-get install chromium), which is driven over its DevTools protocol.
"""

import argparse
import base64
import itertools
import json
import shutil
import socket
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

import mlflow
from PIL import Image
from websockets.sync.client import ClientConnection, connect

SIZE = "1280,860"
COLOURS = 128  # a screenshot needs no more
ASSISTANT = "[data-component-id='mlflow.assistant.chat_panel.close']"  # a panel that takes a quarter of the window
HIDE_PATH = "[...document.querySelectorAll('div, span')].filter(each => each.innerText.startsWith('Path: ')).at(-1)"
FOUND = "[...document.querySelectorAll({selector!r})].filter(each => each.innerText.includes({text!r})).at({place})"


@dataclass
class Page:
    """One tab of a browser."""

    socket: ClientConnection
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer: dict[str, Any] = json.loads(self.socket.recv(timeout=120))
            if answer.get("id") == number:
                return _result(answer)

    def run(self, script: str) -> Any:
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(str(found))
        return found["result"].get("value")

    def open(self, address: str) -> None:
        self.ask("Page.navigate", url=address)

    def wait(self, script: str, seconds: float = 120) -> Any:
        """What a script gives once it gives anything."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found = self.run(script)
            if found:
                return found
            time.sleep(0.3)
        raise TimeoutError(f"never true: {script}\n{self.run('document.body.innerText')}")

    def click(self, selector: str, text: str = "", place: int = -1) -> None:
        """Click an element that matches and holds a text, the last one unless told otherwise, as a mouse would."""
        element = FOUND.format(selector=selector, text=text, place=place)
        self.wait(f"!!{element}")
        box = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({element}.getBoundingClientRect())")
        for kind in ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        self.ask("Input.insertText", text=text)

    def enter(self) -> None:
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13)

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"]))
        small = Image.open(path).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
        small.save(path, optimize=True)
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


@contextmanager
def browser() -> Iterator[Page]:
    program = shutil.which("chromium")
    if program is None:
        sys.exit("no chromium found: apt-get install chromium")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="attrail-chromium-", ignore_cleanup_errors=True) as profile:
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"]
        words += [f"--remote-debugging-port={port}", f"--window-size={SIZE}", "about:blank"]
        process = subprocess.Popen([program, *words], stderr=subprocess.DEVNULL)
        try:
            with connect(_address(port), max_size=None) as socket_:
                yield Page(socket_)
        finally:
            process.terminate()
            process.wait(timeout=30)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("server")
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    with browser() as page:
        refused(page, given.server, given.folder / "refused.png")
        report(page, given.server, given.folder / "report.png")


def refused(page: Page, server: str, path: Path) -> None:
    """A person gives the alias to the version whose audit says DRIFT."""
    page.open(f"{server}/#/models/digits/versions/8")
    page.click(ASSISTANT)
    page.click("button", "Add", place=0)
    page.wait("!!document.querySelector('[role=dialog] input')")
    time.sleep(2)  # until the dialog has unfolded
    page.run("document.querySelector('[role=dialog] input').focus()")
    page.type("champion")
    page.enter()
    page.click("[role=dialog] button", "Save aliases")
    page.wait("document.body.innerText.includes('attrail gate')")
    time.sleep(1)
    page.picture(path)


def report(page: Page, server: str, path: Path) -> None:
    """The report among the files of the run that the audit left."""
    run = audit_of(server, "8")
    page.open(f"{server}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts/attrail/report.html")
    page.wait("[...document.querySelectorAll('iframe')].some(each => each.clientHeight > 100)")
    time.sleep(5)
    page.run(f"{HIDE_PATH}.style.visibility = 'hidden'")  # where this machine keeps the file
    page.picture(path)


def audit_of(server: str, version: str) -> Any:
    """The newest audit's run about a version of the demo's model."""
    client = mlflow.MlflowClient(server)
    envelope = json.loads(client.get_model_version("digits", version).tags["attrail.statement"])
    statement = json.loads(base64.b64decode(envelope["payload"]))
    return client.get_run(statement["predicate"]["run_id"])


def _result(answer: dict[str, Any]) -> dict[str, Any]:
    if "error" in answer:
        raise RuntimeError(str(answer["error"]))
    found: dict[str, Any] = answer["result"]
    return found


def _address(port: int) -> str:
    for _ in range(240):
        try:
            tabs = json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=2).read())
            return str(next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page"))
        except (OSError, StopIteration):
            time.sleep(0.5)
    raise TimeoutError("chromium does not answer")


if __name__ == "__main__":
    main()
