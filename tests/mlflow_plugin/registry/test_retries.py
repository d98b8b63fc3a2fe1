"""A server that is away is waited for: what was computed is kept once it is back, and what is refused is not asked."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_explainers.errors import EvidenceError, RegistryError
from attrail_mlflow.registry import retries
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.attribution_store import AttributionStore, artifact_path
from attrail_mlflow.runs.audit_run import audit_run

WEIGHTS_DIGEST, KEY = "sha256:" + "a" * 64, f"sha256:{1:064x}"


@pytest.fixture(autouse=True)
def short_waits() -> Iterator[None]:
    before, retries.WAITS = retries.WAITS, (0.2, 0.2, 0.2, 0.2)
    yield
    retries.WAITS = before


@pytest.fixture
def store(tmp_path: Path) -> AttributionStore:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("attrail", artifact_location=str(tmp_path / "artifacts"))
    return AttributionStore(Registry(uri), "attrail")


@contextmanager
def away(folder: Path, seconds: float) -> Iterator[None]:
    """A folder is no folder for so long."""
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("the disk is not there")

    def back() -> None:
        time.sleep(seconds)
        folder.unlink()
        aside.rename(folder)

    thread = threading.Thread(target=back)
    thread.start()
    yield
    thread.join()


@given(st.integers(0, 6), st.booleans())
def test_a_transient_error_is_waited_for_as_long_as_there_is_a_wait_left(failures: int, transient: bool) -> None:
    retries.WAITS = (0.0,) * 4
    asked = 0

    def ask() -> str:
        nonlocal asked
        asked += 1
        if asked <= failures:
            raise RegistryError("the server is away", transient=transient)
        return "there"

    if failures == 0 or (transient and failures <= 4):
        assert retries.patiently(ask) == "there"
        assert asked == failures + 1
        return
    with pytest.raises(RegistryError) as refused:
        retries.patiently(ask)
    assert asked == (5 if transient else 1)
    assert not refused.value.transient, "it was waited for already"


def test_what_was_computed_is_kept_once_the_server_is_back(store: AttributionStore, tmp_path: Path) -> None:
    run_id = store.open("maps", WEIGHTS_DIGEST)
    (path := tmp_path / "made" / artifact_path(KEY)).parent.mkdir(parents=True)
    path.write_bytes(b"maps")
    (tmp_path / "artifacts").mkdir(exist_ok=True)
    with away(tmp_path / "artifacts", 0.3):
        (entry,) = store.put(run_id, tmp_path / "made", [KEY])
    assert store.index(WEIGHTS_DIGEST) == {KEY: [entry]}
    assert store.fetch(entry, tmp_path / "read").read_bytes() == b"maps"


def test_evidence_is_sent_once_the_server_is_back(store: AttributionStore, tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files/audit.json").write_text("{}")
    with audit_run(store.registry, "attrail", "an audit") as run:
        (tmp_path / "artifacts").mkdir(exist_ok=True)
        with away(tmp_path / "artifacts", 0.3):
            run.send(tmp_path / "files", {"audit.json"})
    found = store.registry.client.get_run(run.run_id)
    assert found.info.status == "FINISHED"
    assert Path(found.info.artifact_uri, "attrail/audit.json").read_text() == "{}"


def test_a_file_that_cannot_be_asked_for_is_not_called_missing(store: AttributionStore, tmp_path: Path) -> None:
    """Else a finished shard would be computed again whenever the server is away."""
    run_id = store.open("maps", WEIGHTS_DIGEST)
    (path := tmp_path / "made" / artifact_path(KEY)).parent.mkdir(parents=True)
    path.write_bytes(b"maps")
    (entry,) = store.put(run_id, tmp_path / "made", [KEY])
    Path(store.registry.client.get_run(run_id).info.artifact_uri, artifact_path(KEY)).unlink()
    with pytest.raises(EvidenceError, match="cannot be read"):
        store.fetch(entry, tmp_path / "read")
    (tmp_path / "mlflow.db").write_bytes(b"no database")
    with pytest.raises(RegistryError, match="was tried 5 times"):
        store.fetch(entry, tmp_path / "read")


def test_a_run_of_maps_that_was_given_up_does_not_look_finished(store: AttributionStore) -> None:
    run_id = store.open("maps", WEIGHTS_DIGEST)
    with pytest.raises(RegistryError), store.finishing(run_id):
        raise RegistryError("the model is gone")
    assert store.registry.client.get_run(run_id).info.status == "FAILED"
