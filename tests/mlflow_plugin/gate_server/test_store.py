"""The gated store without a server: its journal, its tables, and a registry that was in use before."""

import contextlib
import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, tzinfo
from functools import partial
from pathlib import Path

import pytest
from gate_client import GateClient, Keys, write_policy
from gated_server import Place
from mlflow.entities.model_registry import ModelVersionTag
from mlflow.exceptions import MlflowException
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy import event, text

from attrail_mlflow.gate.policy import GatePolicy, read_gate_policy
from attrail_mlflow.gate_server.store import GatedStore
from attrail_mlflow.journal.hash_chain import Event, JournalRecord
from attrail_mlflow.journal.journal import read_journal
from attrail_mlflow.journal.table import JournalTable
from attrail_mlflow.registry.folder_digest import digest_folder
from attrail_mlflow.registry.model_files import LARGE, ModelFiles
from attrail_mlflow.signing.trusted_keys import TrustedKeys
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate


class Bench:
    """A gated store over a database of one's own, and a gate_client for its statements."""

    def __init__(self, folder: Path) -> None:
        path, self.keys = write_policy(folder / "policy")
        self.folder, self.uri, self.policy_path = folder, f"sqlite:///{folder / 'mlflow.db'}", path
        self.policy: GatePolicy = read_gate_policy(path)
        self.gate_client = GateClient(Place(folder, self.uri, path), Keys(folder / "policy"), "")

    def store(self, policy: GatePolicy | None = None) -> GatedStore:
        return GatedStore(self.uri, None, policy or self.policy)

    def version(self, store: SqlAlchemyStore, content: bytes = b"weights") -> ModelIdentity:
        number = len(store.search_model_versions("name = 'm'")) + 1
        files = self.folder / "files" / str(number)
        files.mkdir(parents=True)
        (files / "weights.bin").write_bytes(content)
        made = store.create_model_version("m", str(files))
        return ModelIdentity("m", str(made.version), made.source, digest_folder(files), "sha256:" + "5" * 64)

    def attest(self, store: SqlAlchemyStore, statement: Predicate, *names: str, key: str = "attrail.statement") -> None:
        envelope = self.gate_client.signed(statement, *(names or ("auditor",)))
        store.set_model_version_tag("m", statement.model.version, ModelVersionTag(key, envelope))

    def champion(self, store: SqlAlchemyStore) -> ModelIdentity:
        store.create_registered_model("m")
        model = self.version(store)
        self.attest(store, self.gate_client.baseline(model))
        store.set_registered_model_alias("m", "champion", model.version)
        return model

    def journal(self, store: GatedStore) -> list[JournalRecord]:
        return list(read_journal(JournalTable(store.engine), self.policy.trusted))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def refused(step, *arguments: object) -> MlflowException:
    with pytest.raises(MlflowException) as raised:
        step(*arguments)
    assert raised.value.error_code == "PERMISSION_DENIED"
    return raised.value


def test_a_refusal_is_one_sentence_with_reasons(bench: Bench) -> None:
    store = bench.store()
    bench.champion(store)
    model = bench.version(store)
    error = refused(store.set_registered_model_alias, "m", "champion", model.version)
    assert error.message == (
        "attrail gate: m/2 may not become champion: there is no signed statement for this version: audit it first "
        "[missing]"
    )
    assert error.json_kwargs["attrail"]["reasons"] == ["missing"]
    assert error.json_kwargs["attrail"]["model"] == {"name": "m", "version": "2"}


def test_a_retrain_takes_no_role_and_stays_one(bench: Bench) -> None:
    store = bench.store()
    store.create_registered_model("m-retrains")
    files = bench.folder / "files"
    files.mkdir()
    (files / "weights.bin").write_bytes(b"weights")
    made = store.create_model_version("m-retrains", str(files))
    model = ModelIdentity("m-retrains", str(made.version), made.source, digest_folder(files), "sha256:" + "5" * 64)
    for key, value in (("attrail.seed", "3"), ("attrail.retrain", "models:/m-1")):
        store.set_model_version_tag("m-retrains", "1", ModelVersionTag(key, value))
    for statement, key in (
        (bench.gate_client.baseline(model), "statement"),
        (bench.gate_client.waiver(model), "waiver"),
    ):
        envelope = bench.gate_client.signed(statement, "auditor" if key == "statement" else "manager")
        store.set_model_version_tag("m-retrains", "1", ModelVersionTag(f"attrail.{key}", envelope))
    error = refused(store.set_registered_model_alias, "m-retrains", "champion", "1")
    assert error.message == (
        "attrail gate: m-retrains/1 may not become champion: it is a retrain, trained for a noise floor; register its "
        "files as a version of the model itself, and audit that [retrain]"
    )
    assert bench.journal(store)[-1].body["reasons"] == ["retrain"]
    assert refused(store.transition_model_version_stage, "m-retrains", "1", "Production", False).message.endswith(
        "[retrain]"
    )
    for change in (
        partial(store.delete_model_version_tag, "m-retrains", "1", "attrail.retrain"),
        partial(store.set_model_version_tag, "m-retrains", "1", ModelVersionTag("attrail.retrain", "models:/m-2")),
        partial(store.set_model_version_tag, "m-retrains", "1", ModelVersionTag("attrail.seed", "4")),
    ):
        assert refused(change).json_kwargs["attrail"]["reasons"] == ["protected-tag"]
    store.set_model_version_tag("m-retrains", "1", ModelVersionTag("attrail.seed", "3"))  # the same again, by a retry
    store.rename_registered_model("m-retrains", "n")
    assert refused(store.set_registered_model_alias, "n", "champion", "1").json_kwargs["attrail"]["reasons"] == [
        "retrain"
    ]
    store.set_registered_model_alias("n", "best-floor", "1")  # an alias that nothing protects


def test_a_copy_of_a_retrain_is_a_version_without_evidence_and_no_other_version_is_made_a_retrain(bench: Bench) -> None:
    store = bench.store()
    bench.champion(store)
    store.create_registered_model("m-retrains")
    made = store.create_model_version("m-retrains", bench.version(store).source)
    store.set_model_version_tag("m-retrains", "1", ModelVersionTag("attrail.retrain", "models:/m-1"))
    copied = store.copy_model_version(store.get_model_version("m-retrains", str(made.version)), "m")
    error = refused(store.set_registered_model_alias, "m", "champion", str(copied.version))
    assert error.json_kwargs["attrail"]["reasons"] == ["missing"]
    marked = partial(store.set_model_version_tag, "m", str(copied.version), ModelVersionTag("attrail.retrain", "x"))
    assert "whose name ends with -retrains" in refused(marked).message


def test_every_decision_is_in_the_journal(bench: Bench) -> None:
    store = bench.store()
    champion = bench.champion(store)
    bad, good = bench.version(store), bench.version(store)
    refused(store.set_registered_model_alias, "m", "champion", bad.version)
    refused(store.rename_registered_model, "m", "n")
    bench.attest(store, bench.gate_client.verdict(good, champion))
    store.set_registered_model_alias("m", "champion", good.version)
    refused(store.delete_model_version_tag, "m", good.version, "attrail.statement")
    bench.attest(store, bench.gate_client.waiver(bad), "manager", key="attrail.waiver")
    store.set_registered_model_alias("m", "champion", bad.version)
    store.delete_registered_model_alias("m", "champion")
    found = bench.journal(store)
    assert [(each.event, each.body.get("by"), each.body.get("reasons")) for each in found[2:]] == [
        (Event.GATE_ALLOWED, "baseline", []),
        (Event.GATE_REFUSED, None, ["missing"]),
        (Event.GATE_REFUSED, None, ["holds-role"]),
        (Event.GATE_ALLOWED, "verdict", []),
        (Event.GATE_REFUSED, None, ["protected-tag"]),
        (Event.WAIVER, None, None),
        (Event.GATE_ALLOWED, "waiver", []),
        (Event.GATE_ALLOWED, "removal", []),
    ]
    assert found[7].body["waiver"]["reason"] == "the champion answers with errors"
    assert all(each.actor and each.signature for each in found)


def test_the_policy_is_journaled_when_it_changes(bench: Bench) -> None:
    for policy in (bench.policy, bench.policy, replace(bench.policy, stages=()), bench.policy):
        store = bench.store(policy)
    policies = [each.body["policy_digest"] for each in bench.journal(store) if each.event == Event.POLICY]
    assert policies == [bench.policy.digest, replace(bench.policy, stages=()).digest, bench.policy.digest]


def test_who_was_champion_before_the_gate_is_what_candidates_replace(bench: Bench) -> None:
    plain = SqlAlchemyStore(bench.uri)
    plain.create_registered_model("m")
    old = bench.version(plain)
    plain.set_registered_model_alias("m", "champion", old.version)
    store = bench.store()
    adopted = bench.journal(store)[-1]
    assert (adopted.body["by"], adopted.body["artifact_digest"]) == ("adopted", old.artifact_digest)
    assert len(bench.journal(bench.store())) == adopted.index + 1, "adopted twice"
    first = bench.version(store)
    bench.attest(store, bench.gate_client.baseline(first))
    store.delete_registered_model_alias("m", "champion")
    error = refused(store.set_registered_model_alias, "m", "champion", first.version)
    assert error.json_kwargs["attrail"]["reasons"] == ["not-first"]
    second = bench.version(store)
    bench.attest(store, bench.gate_client.verdict(second, old))
    store.set_registered_model_alias("m", "champion", second.version)


def test_a_champion_swapped_before_the_first_promotion_is_no_reference(bench: Bench) -> None:
    plain = SqlAlchemyStore(bench.uri)
    plain.create_registered_model("m")
    old = bench.version(plain)
    plain.set_registered_model_alias("m", "champion", old.version)
    store = bench.store()
    weights = Path(old.source) / "weights.bin"
    weights.write_bytes(b"evil")
    evil = bench.version(store, b"also evil")
    swapped = ModelIdentity(old.name, old.version, old.source, digest_folder(weights.parent), old.weights_digest)
    bench.attest(store, bench.gate_client.verdict(evil, swapped))
    error = refused(store.set_registered_model_alias, "m", "champion", evil.version)
    assert error.json_kwargs["attrail"]["reasons"] == ["stale-reference"]


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM attrail_journal WHERE record = 2",
        "DELETE FROM attrail_journal",
        "UPDATE attrail_journal_head SET line = NULL",
        "DELETE FROM attrail_journal_head",
        "UPDATE attrail_journal SET line = replace(line, 'baseline', 'verdict!') WHERE record = 2",
    ],
)
def test_nothing_is_promoted_on_a_damaged_journal(damage: str, bench: Bench) -> None:
    store = bench.store()
    champion = bench.champion(store)
    model = bench.version(store)
    bench.attest(store, bench.gate_client.verdict(model, champion))
    with store.engine.begin() as connection:
        connection.execute(text(damage))
    error = refused(store.set_registered_model_alias, "m", "champion", model.version)
    assert error.json_kwargs["attrail"]["reasons"] == ["no-journal"]
    assert store.get_model_version_by_alias("m", "champion").version == int(champion.version)


def test_only_auditors_write_tags_where_the_policy_names_them(bench: Bench) -> None:
    path, _ = write_policy(bench.folder / "strict", 'auditors = ["nightly"]')
    store = bench.store(read_gate_policy(path))
    store.create_registered_model("m")
    model = bench.version(store)
    tag = ModelVersionTag("attrail.verdict", "PASS")
    error = refused(store.set_model_version_tag, "m", model.version, tag)
    assert "an unknown user is no auditor" in error.message
    refused(store.delete_model_version_tag, "m", model.version, "Attrail.Verdict")
    store.set_model_version_tag("m", model.version, ModelVersionTag("team", "vision"))
    store.set_model_version_tag("m", model.version, ModelVersionTag("attrail.waiver", "signed by whom it may"))


def test_a_server_error_leaves_no_trace(bench: Bench) -> None:
    """What MLflow itself refuses is no decision of the gate's."""
    store = bench.store()
    bench.champion(store)
    before = len(bench.journal(store))
    with pytest.raises(MlflowException, match="not found"):
        store.set_registered_model_alias("m", "champion", "77")
    assert len(bench.journal(store)) == before


def test_files_on_another_server_are_fetched_for_every_promotion(bench: Bench, gate_client: GateClient) -> None:
    """Over HTTP, from a server that is not the gate's own: what was fetched once says nothing about now."""
    run = gate_client.need("runs/create", experiment_id="0")["run"]["info"]
    path = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    assert gate_client.upload(f"{path}/model/MLmodel", b"flavors: {}\n") == 200
    store = bench.store()
    store.create_registered_model("m")
    source = f"{gate_client.address}/api/2.0/mlflow-artifacts/artifacts/{path}/model"
    made = store.create_model_version("m", source)
    digest = digest_folder(gate_client.artifacts / path / "model")
    model = ModelIdentity("m", str(made.version), made.source, digest, "sha256:" + "5" * 64)
    bench.attest(store, bench.gate_client.baseline(model))
    store.set_registered_model_alias("m", "champion", model.version)
    store.set_registered_model_alias("m", "champion", model.version)
    assert gate_client.upload(f"{path}/model/MLmodel", b"evil") == 200
    error = refused(store.set_registered_model_alias, "m", "champion", model.version)
    assert error.json_kwargs["attrail"]["reasons"] == ["wrong-bytes"]
    gate_client.session.close()
    (gate_client.artifacts / path / "model" / "MLmodel").unlink()
    error = refused(store.set_registered_model_alias, "m", "champion", model.version)
    assert "cannot be hashed" in error.message


def test_a_revoked_key_lets_nothing_through(bench: Bench) -> None:
    store = bench.store()
    champion = bench.champion(store)
    model = bench.version(store)
    bench.attest(store, bench.gate_client.verdict(model, champion))
    kept = TrustedKeys.of(each for each in bench.policy.trusted if each.owner != "auditor")
    error = refused(
        bench.store(replace(bench.policy, trusted=kept)).set_registered_model_alias, "m", "champion", model.version
    )
    assert error.json_kwargs["attrail"]["reasons"] == ["untrusted-key"]


def test_a_version_does_not_change_stages_and_leave_a_protected_one_to_an_older(bench: Bench) -> None:
    store = bench.store(replace(bench.policy, stages=("Staging", "Production")))
    champion = bench.champion(store)
    newest = bench.version(store)
    store.transition_model_version_stage("m", champion.version, "Production", False)
    bench.attest(store, bench.gate_client.verdict(newest, champion))
    store.transition_model_version_stage("m", newest.version, "Production", False)
    error = refused(store.transition_model_version_stage, "m", newest.version, "Staging", False)
    assert error.json_kwargs["attrail"]["reasons"] == ["holds-role"]
    assert "m/1" in error.message


def test_a_start_of_a_server_has_one_policy(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is started anew reads a file that was changed since: it decides nothing, the others go on."""
    monkeypatch.setenv("_MLFLOW_SERVER_BOOT_ID", "first start")
    store, other = bench.store(), replace(bench.policy, aliases=("elsewhere",), stages=())
    champion = bench.champion(store)
    model = bench.version(store)
    before = len(bench.journal(store))
    anew = bench.store(other)
    for step, *arguments in (
        (anew.set_registered_model_alias, "m", "champion", model.version),
        (anew.set_registered_model_alias, "m", "elsewhere", model.version),
        (anew.delete_registered_model_alias, "m", "champion"),
        (anew.transition_model_version_stage, "m", model.version, "Production", False),
        (anew.transition_model_version_stage, "m", model.version, "Staging", False),
        (anew.delete_model_version, "m", champion.version),
        (anew.set_model_version_tag, "m", model.version, ModelVersionTag("attrail.verdict", "PASS")),
    ):
        error = refused(step, *arguments)
        assert error.json_kwargs["attrail"]["reasons"] == ["other-policy"]
        assert f"this process has the policy {other.digest}, but {bench.policy.digest} is in force" in error.message
    assert anew.get_model_version_by_alias("m", "champion").version == int(champion.version)
    assert len(bench.journal(store)) == before
    bench.attest(store, bench.gate_client.verdict(model, champion))
    store.set_registered_model_alias("m", "champion", model.version)


def test_the_server_that_was_started_last_has_the_policy_for_all(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hosts on one database: restarting one under another policy stops the other until it is restarted too."""
    monkeypatch.setenv("_MLFLOW_SERVER_BOOT_ID", "one host")
    one, other = bench.store(), replace(bench.policy, aliases=("champion", "production", "elsewhere"))
    champion = bench.champion(one)
    monkeypatch.setenv("_MLFLOW_SERVER_BOOT_ID", "other host")
    bench.store(other).set_registered_model_alias("m", "champion", champion.version)
    error = refused(one.set_registered_model_alias, "m", "champion", champion.version)
    assert error.json_kwargs["attrail"]["reasons"] == ["other-policy"]
    monkeypatch.setenv("_MLFLOW_SERVER_BOOT_ID", "one host")
    error = refused(bench.store().set_registered_model_alias, "m", "champion", champion.version)
    assert error.json_kwargs["attrail"]["reasons"] == ["other-policy"]
    monkeypatch.setenv("_MLFLOW_SERVER_BOOT_ID", "one host, restarted")
    again = bench.store()
    again.set_registered_model_alias("m", "champion", champion.version)
    policies = [each.body["policy_digest"] for each in bench.journal(again) if each.event == Event.POLICY]
    assert policies == [bench.policy.digest, other.digest, bench.policy.digest]


def test_an_audit_against_a_version_counts_from_when_it_was_seen_and_once(bench: Bench) -> None:
    """A drift signed by a clock a day behind stops an older pass; shown again after a newer pass it stops nothing."""
    store, now = bench.store(), datetime.now(UTC).replace(microsecond=0)
    champion = bench.champion(store)
    model = bench.version(store)

    def verdict(word: str, ago: timedelta) -> Predicate:
        return bench.gate_client.verdict(model, champion, verdict=word, issued=now - ago)

    drift = verdict("DRIFT", timedelta(days=1))
    bench.attest(store, verdict("PASS", timedelta(hours=1)))
    bench.attest(store, drift)
    error = refused(store.set_registered_model_alias, "m", "champion", model.version)
    assert error.json_kwargs["attrail"]["reasons"] == ["verdict-drift"]
    error = refused(bench.attest, store, verdict("PASS", timedelta(hours=1)))
    assert error.json_kwargs["attrail"]["reasons"] == ["superseded"]
    assert "audit again" in error.message
    while datetime.now(UTC) < now + timedelta(seconds=2):
        time.sleep(0.1)
    bench.attest(store, bench.gate_client.verdict(model, champion))
    error = refused(bench.attest, store, drift)
    assert error.json_kwargs["attrail"]["reasons"] == ["superseded"]
    store.set_registered_model_alias("m", "champion", model.version)


@pytest.mark.parametrize("before", [True, False], ids=["beside a valid one", "as the first"])
def test_a_statement_from_a_fast_clock_is_older_than_what_was_seen_after_it(
    before: bool, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was shown too early, then the version drifted; a day later it is valid, and must not count more."""
    store = bench.store()
    champion = bench.champion(store)
    model, day = bench.version(store), timedelta(days=1)
    now = datetime.now(UTC).replace(microsecond=0)
    if before:
        bench.attest(store, bench.gate_client.verdict(model, champion, reason="the first"))
    ahead = bench.gate_client.verdict(model, champion, issued=now + day, expires=now + 30 * day)
    if before:
        assert "compare the clocks" in refused(partial(bench.attest, store, ahead)).message
    else:
        bench.attest(store, ahead)
    bench.attest(store, bench.gate_client.verdict(model, champion, verdict="DRIFT"))
    monkeypatch.setattr("attrail_mlflow.gate_server.store.datetime", _later_by(day + timedelta(hours=1)))
    assert refused(partial(bench.attest, store, ahead)).json_kwargs["attrail"]["reasons"] == ["superseded"]
    refused(store.set_registered_model_alias, "m", "champion", model.version)
    again = now + day + timedelta(minutes=90)
    monkeypatch.setattr("attrail_mlflow.gate_server.store.datetime", _later_by(2 * day))
    bench.attest(store, bench.gate_client.verdict(model, champion, issued=again, expires=now + 30 * day))
    store.set_registered_model_alias("m", "champion", model.version)


def test_a_statement_from_a_fast_clock_makes_no_later_one_old(bench: Bench) -> None:
    store = bench.store()
    champion = bench.champion(store)
    model, now = bench.version(store), datetime.now(UTC).replace(microsecond=0)
    far = {"issued": now + timedelta(days=1), "expires": now + timedelta(days=30)}
    bench.attest(store, bench.gate_client.verdict(model, champion, **far))
    bench.attest(store, bench.gate_client.verdict(model, champion))
    store.set_registered_model_alias("m", "champion", model.version)


def test_a_baseline_without_checks_is_outvoted_by_no_older_one(bench: Bench) -> None:
    store = bench.store()
    store.create_registered_model("m")
    model = bench.version(store)
    held = bench.gate_client.baseline(model)
    bench.attest(store, held)
    bench.attest(store, bench.gate_client.baseline(model, checks=()))
    assert refused(partial(bench.attest, store, held)).json_kwargs["attrail"]["reasons"] == ["superseded"]
    refused(store.set_registered_model_alias, "m", "champion", model.version)


def _later_by(step: timedelta) -> type[datetime]:
    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + step

    return Later


def test_a_locked_database_is_said_in_one_sentence(bench: Bench) -> None:
    store = bench.store()
    champion = bench.champion(store)
    event.listen(
        store.engine,
        "before_cursor_execute",
        lambda *given: (given[2].replace("busy_timeout = 20000", "busy_timeout = 10"), given[3]),  # MLflow's wait, cut
        retval=True,
    )
    lock = sqlite3.connect(bench.folder / "mlflow.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with contextlib.closing(lock):
        for alias in ("champion", "blue"):
            with pytest.raises(MlflowException) as raised:
                store.set_registered_model_alias("m", alias, champion.version)
            assert raised.value.error_code == "TEMPORARILY_UNAVAILABLE"
            assert raised.value.message == (
                "the registry's database cannot do it now (database is locked): nothing was changed; try again in a "
                "moment"
            )
    store.set_registered_model_alias("m", "champion", champion.version)


def test_a_large_champion_is_read_while_nobody_waits(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the gate is switched on: another process writes to the database while the files are hashed."""
    plain = SqlAlchemyStore(bench.uri)
    plain.create_registered_model("m")
    old = bench.version(plain)
    with (Path(old.source) / "weights.bin").open("r+b") as file:
        file.truncate(LARGE + 1)
    plain.set_registered_model_alias("m", "champion", old.version)
    read_ahead, wrote = ModelFiles.read_ahead, []

    def watched(self: ModelFiles, uri: str) -> object:
        with contextlib.closing(sqlite3.connect(bench.folder / "mlflow.db", timeout=0)) as other, other:
            wrote.append(other.execute("UPDATE model_versions SET description = 'written meanwhile'").rowcount)
        return read_ahead(self, uri)

    monkeypatch.setattr(ModelFiles, "read_ahead", watched)
    store = bench.store()
    adopted = bench.journal(store)[-1]
    assert wrote == [1]
    assert (adopted.body["by"], adopted.body["artifact_digest"]) == ("adopted", digest_folder(Path(old.source)))


def test_an_unprotected_stage_does_not_wait_for_the_journal(bench: Bench) -> None:
    store = bench.store()
    bench.champion(store)
    model = bench.version(store)
    asked: list[str] = []
    event.listen(store.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    store.transition_model_version_stage("m", model.version, "Staging", False)
    store.set_registered_model_alias("m", "blue", model.version)
    store.delete_registered_model_alias("m", "blue")
    assert not [each for each in asked if "attrail_journal" in each]
    assert store.get_model_version("m", model.version).current_stage == "Staging"
