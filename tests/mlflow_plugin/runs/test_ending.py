"""How runs end, and that a run which cannot be marked as ended costs nobody what is in it."""

import logging
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from attrail_mlflow.registry import retries
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.audit_run import open_run
from attrail_mlflow.runs.ending import finishing


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("models")  # MLflow makes the database
    return Registry(uri)


def failing(registry: Registry, run_id: str, before: Callable[[], object] = lambda: None) -> None:
    with finishing(registry, run_id):
        before()
        raise KeyError("a bug")


def test_a_run_says_how_it_ended(registry: Registry) -> None:
    good, bad = (open_run(registry, "attrail", name).run_id for name in ("good", "bad"))
    with finishing(registry, good):
        assert registry.client.get_run(good).info.status == "RUNNING"
    with pytest.raises(KeyError, match="a bug"):
        failing(registry, bad)
    assert [registry.client.get_run(each).info.status for each in (good, bad)] == ["FINISHED", "FAILED"]


def test_a_run_that_cannot_be_marked_is_warned_of(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "WAITS", (0.0,))
    good, bad = (open_run(registry, "attrail", name).run_id for name in ("good", "bad"))
    with caplog.at_level(logging.WARNING):
        with pytest.raises(KeyError, match="a bug"):  # what went wrong first counts
            failing(registry, bad, lambda: (tmp_path / "mlflow.db").write_bytes(b"no database"))
        with finishing(registry, good):
            pass
    said = [record.getMessage() for record in caplog.records if record.name == "attrail.runs"]
    assert [each.partition(": ")[0] for each in said] == [
        f"run {bad} could not be marked failed",
        f"run {good} could not be marked finished",
    ]
    assert not any("\n" in each for each in said)
