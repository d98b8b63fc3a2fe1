"""Servers that must not start: they would look guarded, and not be."""

import os
import re
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from gated_server import Place, Setting, free_port

NO_METHOD = """
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Store
del Store.transition_model_version_stage
"""
NEW_METHOD = """
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore as Store
Store.promote_model_version = lambda self, name, version: None
"""
NO_ROUTE = """
from mlflow.server import app
for rule in app.url_map.iter_rules():
    if rule.endpoint == "_transition_stage":
        rule.endpoint = "_change_stage"
"""


@dataclass(frozen=True)
class Start:
    """A way to start a server, and what it must say when it ends instead."""

    name: str
    said: str
    setting: Setting = field(default_factory=Setting)
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    policy: str | None = None
    hook: str | None = None

    def __call__(self, place: Place) -> str:
        """Try it, and return the last line of what it said; AssertionError when it runs."""
        folder = place.folder / self.name.replace(" ", "-")
        folder.mkdir()
        environment = place.environment() | dict(self.environment)
        if self.policy is not None:
            (folder / "gate.toml").write_text(self.policy)
            environment["ATTRAIL_GATE_POLICY"] = str(folder / "gate.toml")
        if self.hook is not None:
            (folder / "sitecustomize.py").write_text(self.hook)
            environment["PYTHONPATH"] = str(folder)
        command = place.command(self.setting, free_port())
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, said = process.communicate(timeout=180)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError(f"{self.name}: the server runs") from error
        assert process.returncode != 0, said
        assert self.said in said, said
        line = next(line for line in said.splitlines() if self.said in line)
        return re.sub(r"^.*?(mlflow\.cli|ConfigError): ", "", line).replace(f"{folder}/", "")


STARTS = [
    Start("no policy", "ATTRAIL_GATE_POLICY names no file", environment={"ATTRAIL_GATE_POLICY": ""}),
    Start("no trusted key", "it trusts no [[key]]", policy='aliases = ["champion"]'),
    Start("misspelt entry in the policy", "unknown entry 'alias'", policy='alias = ["champion"]'),
    Start("store method missing", "SqlAlchemyStore.transition_model_version_stage", hook=NO_METHOD),
    Start("store method unknown", "SqlAlchemyStore.promote_model_version() may change", hook=NEW_METHOD),
    Start("route missing", "the server has no endpoint _transition_stage", Setting("attrail"), hook=NO_ROUTE),
    Start("application without the gate", "this server's registry is not gated", Setting("attrail", gated=False)),
]


def place_in(folder: Path, policy: Path) -> Place:
    return Place(folder, f"sqlite:///{folder / 'starts.db'}", policy)
