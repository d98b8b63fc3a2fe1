"""Servers that must not start: they would look guarded, and not be."""

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
from mlflow.server import handlers
handlers._transition_stage.__name__ = "_change_stage"
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
        try:
            done = subprocess.run(
                command, env=environment, cwd=folder, capture_output=True, text=True, timeout=180, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"{self.name}: the server runs") from error
        assert done.returncode != 0, done.stderr
        assert self.said in done.stderr, done.stderr
        return next(line for line in done.stderr.splitlines() if self.said in line).strip()


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
