"""Kept attributions: found by their key, held against their sha256, and a half-written file is never seen."""

import threading
from pathlib import Path

import mlflow
import pytest

from attrail_explainers.errors import EvidenceError, RegistryError
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.tags import ATTRIBUTIONS_TAG
from attrail_mlflow.runs.attribution_store import AttributionStore, artifact_path

WEIGHTS_DIGEST = "sha256:" + "a" * 64
KEYS = [f"sha256:{number:064x}" for number in range(4)]


@pytest.fixture
def store(tmp_path: Path) -> AttributionStore:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("attrail", artifact_location=str(tmp_path / "artifacts"))
    return AttributionStore(Registry(uri), "attrail")


def written(folder: Path, *keys: str, content: bytes = b"maps of ") -> Path:
    for key in keys:
        path = folder / artifact_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content + key.encode())
    return folder


def kept_file(store: AttributionStore, run_id: str, key: str) -> Path:
    return Path(store.registry.client.get_run(run_id).info.artifact_uri, artifact_path(key))


def test_what_was_kept_is_found_by_its_key_and_read_as_it_was(store: AttributionStore, tmp_path: Path) -> None:
    run_id = store.open("maps", WEIGHTS_DIGEST)
    entries = store.put(run_id, written(tmp_path / "a", *KEYS[:2]), KEYS[:2])
    index = store.index(WEIGHTS_DIGEST)
    assert index == {each.key: [each] for each in entries}
    assert store.fetch(index[KEYS[1]][0], tmp_path / "b").read_bytes() == b"maps of " + KEYS[1].encode()
    assert store.index("sha256:" + "b" * 64) == {}


def test_nothing_is_found_where_nothing_was_kept(tmp_path: Path, store: AttributionStore) -> None:
    assert AttributionStore(store.registry, "another experiment").index(WEIGHTS_DIGEST) == {}


def test_an_upload_without_its_tag_is_never_seen(store: AttributionStore, tmp_path: Path) -> None:
    run_id = store.open("maps", WEIGHTS_DIGEST)
    written(tmp_path, KEYS[0])
    store.registry.client.log_artifact(run_id, str(tmp_path / artifact_path(KEYS[0])), "attributions")
    assert store.index(WEIGHTS_DIGEST) == {}


def test_what_a_killed_run_completed_counts(store: AttributionStore, tmp_path: Path) -> None:
    run_id = store.open("maps", WEIGHTS_DIGEST)
    store.put(run_id, written(tmp_path, KEYS[0]), [KEYS[0]])
    assert store.registry.client.get_run(run_id).info.status == "RUNNING"
    assert set(store.index(WEIGHTS_DIGEST)) == {KEYS[0]}
    with store.finishing(run_id):
        pass
    assert store.registry.client.get_run(run_id).info.status == "FINISHED"


@pytest.mark.parametrize("harm", ["altered", "cut short", "missing"])
def test_a_wrong_or_missing_file_is_refused(store: AttributionStore, tmp_path: Path, harm: str) -> None:
    run_id = store.open("maps", WEIGHTS_DIGEST)
    (entry,) = store.put(run_id, written(tmp_path / "a", KEYS[0]), [KEYS[0]])
    path = kept_file(store, run_id, KEYS[0])
    content = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(content[:-1] if harm == "cut short" else b"M" + content[1:])
    with pytest.raises(EvidenceError, match=f"run {run_id}"):
        store.fetch(entry, tmp_path / "b")


def test_of_many_writers_the_first_comes_first_and_all_are_whole(store: AttributionStore, tmp_path: Path) -> None:
    runs = [store.open(f"writer {number}", WEIGHTS_DIGEST) for number in range(4)]
    failures: list[Exception] = []

    def write(number: int) -> None:
        try:
            store.put(runs[number], written(tmp_path / str(number), *KEYS), KEYS)
        except RegistryError as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    assert failures == []
    index = store.index(WEIGHTS_DIGEST)
    assert set(index) == set(KEYS)
    assert all([each.run_id for each in entries] == runs for entries in index.values())
    assert all(store.fetch(each, tmp_path / "read").is_file() for entries in index.values() for each in entries)


def test_more_runs_than_one_page_are_all_looked_at(
    store: AttributionStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attrail_mlflow.runs.attribution_store.PAGE", 1)
    for key in KEYS[:3]:
        store.put(store.open("maps", WEIGHTS_DIGEST), written(tmp_path, key), [key])
    assert set(store.index(WEIGHTS_DIGEST)) == set(KEYS[:3])


def test_a_run_of_maps_lies_below_the_audit_that_made_it(store: AttributionStore) -> None:
    audit = store.open("audit", WEIGHTS_DIGEST)
    tags = store.registry.client.get_run(store.open("maps", WEIGHTS_DIGEST, audit)).data.tags
    assert tags["mlflow.parentRunId"] == audit
    assert tags[ATTRIBUTIONS_TAG] == WEIGHTS_DIGEST


def test_a_store_that_cannot_be_asked_is_worth_another_try(tmp_path: Path, store: AttributionStore) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database")
    with pytest.raises(RegistryError) as refused:
        store.index(WEIGHTS_DIGEST)
    assert refused.value.transient
