"""The trail of a real audit: signed, journaled, exported, verified by the commands, and seen through when tampered."""

import json
import os
import re
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

import mlflow
import pytest

from attrail_explainers.errors import RecordError
from attrail_mlflow.gate.coverage import Promotion, require_covers
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import read_journal
from attrail_mlflow.registry.folder_digest import digest_folder
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.audit_run import open_run
from attrail_mlflow.runs.ending import finishing
from attrail_mlflow.signing.trusted_keys import read_trusted_keys
from attrail_mlflow.statements.verification import verify_statement
from attrail_mlflow.trail.attestation import Attestation, Trail
from attrail_mlflow.trail.bundle import attested_in
from attrail_mlflow.trail.control_map import control_map_text, read_control_map, require_answered

Run = Callable[..., tuple[int, str, str]]
GRADCAM = '[[explainer]]\nname = "gradcam"'


@dataclass(frozen=True)
class Signed:
    """A real audit of version 7 that was signed and journaled, its bundle, and who is trusted."""

    folder: Path
    run_id: str
    artifacts: Path
    tracking_uri: str
    environment: dict[str, str]

    @property
    def bundle(self) -> Path:
        return self.folder / "bundle.zip"

    @property
    def trust(self) -> Path:
        return self.folder / "trust.toml"


@pytest.fixture(scope="module")
def signed(attrail: Run, trained_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Signed:
    folder = tmp_path_factory.mktemp("signed")
    environment = {
        "ATTRAIL_SIGNING_KEY": str(folder / "audit"),
        "ATTRAIL_SIGNING_PASSPHRASE": "open sesame",
        "ATTRAIL_JOURNAL": str(folder / "journal.jsonl"),
        "ATTRAIL_ACTOR": "nightly",
    }
    with mock.patch.dict(os.environ, environment):
        _, entry, _ = attrail("keys", "new", folder / "audit")
        (folder / "trust.toml").write_text(entry)
        tracking_uri = f"sqlite:///{trained_registry / 'mlflow.db'}"
        config = folder / "attrail.toml"
        shutil.copytree(trained_registry / "slices", folder / "slices")
        config.write_text(
            f'[registry]\ntracking_uri = "{tracking_uri}"\nmodel = "digits"\ncandidate = "7"\n'
            'floor = ["2", "3", "4", "5", "6"]\n[[slice]]\nname = "validation"\nsource = "slices/validation.csv"\n'
            f"{GRADCAM}\n[policy]\nresamples = 200\n"
        )
        status, _, err = attrail("audit", "--config", config, "--json", folder / "result.json")
        assert status in (0, 3), err
        run_id = json.loads((folder / "result.json").read_text())["run_id"]
        trust = ("--trust", folder / "trust.toml", "--tracking-uri", tracking_uri)
        status, out, err = attrail("export", run_id, "--out", folder / "bundle.zip", *trust)
        assert status == 0, err
        assert "not sealed" not in out
    artifacts = Path(mlflow.MlflowClient(tracking_uri).get_run(run_id).info.artifact_uri) / "attrail"
    return Signed(folder, run_id, artifacts, tracking_uri, environment)


def test_bundle_journal_and_run_are_right(signed: Signed, attrail: Run) -> None:
    for what in (signed.bundle, signed.folder / "journal.jsonl", signed.artifacts):
        status, out, err = attrail("verify", what, "--trust", signed.trust)
        assert (status, err) == (0, ""), err
        assert out.endswith("nothing is wrong\n")
        assert "caution" not in out
    status, out, _ = attrail("verify", signed.run_id, "--trust", signed.trust, "--tracking-uri", signed.tracking_uri)
    assert status == 0
    assert "for digits/7 against digits/1" in out


def test_without_trusted_keys_it_says_what_that_cannot_show(signed: Signed, attrail: Run) -> None:
    status, out, _ = attrail("verify", signed.bundle)
    assert status == 0
    assert "give the trusted keys" in out


def test_the_journal_has_the_policy_before_the_audit(signed: Signed) -> None:
    records = list(read_journal(JournalFile(signed.folder / "journal.jsonl"), read_trusted_keys(signed.trust)))
    assert [record.event for record in records] == [Event.START, Event.POLICY, Event.AUDIT]
    assert {record.actor for record in records} == {"nightly"}
    document = json.loads((signed.artifacts / "audit.json").read_text())
    assert records[1].body["policy_digest"] == records[2].body["policy_digest"] == document["policy_digest"]
    assert records[1].body["policy"] == json.loads((signed.artifacts / "policy.json").read_text())


def test_the_statement_lets_these_bytes_through_and_no_others(signed: Signed, tmp_path: Path) -> None:
    client = mlflow.MlflowClient(signed.tracking_uri)
    envelope = client.get_model_version("digits", "7").tags["attrail.statement"].encode()
    assert envelope == (signed.artifacts / "statement.json").read_bytes()
    statement = verify_statement(envelope, read_trusted_keys(signed.trust), datetime.now(UTC))
    models = Path(mlflow.artifacts.download_artifacts("models:/digits/7", dst_path=str(tmp_path)))
    assert statement.model.artifact_digest == digest_folder(models)
    assert statement.reference_aliases == ("champion",)
    require_covers(statement, Promotion(statement.model, "champion", statement.reference))


def test_no_statement_is_in_mlflow_before_the_journal_has_it(signed: Signed, tmp_path: Path) -> None:
    """Whoever reads one there could show it to the gate."""
    folder, journal = tmp_path / "run", tmp_path / "journal.jsonl"
    shutil.copytree(signed.artifacts, folder)
    envelope, manifest = (folder / "statement.json").read_bytes(), json.loads((folder / "manifest.json").read_text())
    attested = Attestation(manifest, attested_in(folder), envelope)
    trail = Trail.from_environment(signed.environment | {"ATTRAIL_JOURNAL": str(journal)})
    trail.note(Event.POLICY, {})
    before = journal.read_bytes()
    run = open_run(Registry(signed.tracking_uri), "a damaged journal", "audit")

    def send() -> None:
        run.send_noted(folder, manifest, envelope, lambda: trail.note_audit(attested))

    kept = Path(run.location("statement.json"))
    with finishing(run.registry, run.run_id):
        journal.write_bytes(b"")
        with pytest.raises(RecordError, match="the journal is not written on, it was damaged"):
            send()
        assert kept.with_name("manifest.json").is_file()
        assert not kept.exists()
        journal.write_bytes(before)
        send()
    assert kept.read_bytes() == envelope
    assert [each.event for each in read_journal(JournalFile(journal), None)][-1] == Event.AUDIT


def test_every_artifact_of_the_control_map_is_in_a_real_bundle(signed: Signed) -> None:
    with zipfile.ZipFile(signed.bundle) as archive:
        require_answered(read_control_map(control_map_text()), archive.namelist())


def test_a_file_changed_in_mlflow_is_named(signed: Signed, attrail: Run) -> None:
    path = signed.artifacts / "measurements.csv"
    honest = path.read_bytes()
    try:
        path.write_bytes(honest.replace(b"0.", b"1.", 1))
        for act in (("verify", signed.run_id), ("export", signed.run_id, "--out", signed.folder / "x.zip")):
            status, _, err = attrail(*act, "--trust", signed.trust, "--tracking-uri", signed.tracking_uri)
            assert status == 1
            assert err.startswith("WRONG    the file 'measurements.csv' was altered")
        assert not (signed.folder / "x.zip").exists()
    finally:
        path.write_bytes(honest)


def test_an_audit_without_a_key_says_that_nobody_signed_it(attrail: Run, workplace, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    config = workplace.config(explainers=GRADCAM, slice="limit = 20")
    attrail("audit", "--config", config, "--json", result)
    run_id = json.loads(result.read_text())["run_id"]
    uri = ("--tracking-uri", workplace.tracking_uri)
    status, out, err = attrail("verify", run_id, *uri)
    assert status == 1
    assert "NOT SIGNED" in out
    assert "--allow-unsigned" in err
    assert attrail("verify", run_id, "--allow-unsigned", *uri)[0] == 0


def test_a_key_that_is_of_no_use_is_told_before_anything_is_computed(attrail: Run, workplace, tmp_path: Path) -> None:
    for name, value in (
        ("ATTRAIL_SIGNING_KEY", "nowhere"),
        ("ATTRAIL_STATEMENT_DAYS", "soon"),
        ("ATTRAIL_STATEMENT_DAYS", "\N{SUPERSCRIPT TWO}"),
        ("ATTRAIL_TRUSTED_KEYS", "nowhere"),
    ):
        with mock.patch.dict(os.environ, {name: value}):
            status, _, err = attrail("audit", "--config", workplace.config())
        assert status == 2
        assert value in err
        assert "explained" not in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("verify", "no-such-file"), "is no file and no MLflow run id"),
        (("export", "run-1", "--out", "x.zip"), "32 hexadecimal digits"),
        (("keys", "show", "nowhere.pub"), "cannot be read"),
        (("journal", "restart", "nowhere.jsonl", "--reason", "x"), "there is no journal"),
        (("verify", "x", "--trust", "nowhere.toml"), "cannot be read"),
    ],
)
def test_usage_errors_end_with_2(attrail: Run, arguments: tuple[str, ...], says: str) -> None:
    status, _, err = attrail(*arguments)
    assert status == 2
    assert says in err


def test_a_bundle_is_sealed_by_a_key_that_may(signed: Signed, attrail: Run, tmp_path: Path) -> None:
    entry = signed.trust.read_text().replace('"audit.pub"', f'"{signed.folder}/audit.pub"')
    entry = entry.replace(f'file = "{signed.folder.name}', f'file = "{signed.folder}')
    (tmp_path / "trust.toml").write_text(re.sub("(?m)^may = .*$", 'may = ["verdict", "journal"]', entry))
    bundle = tmp_path / "bundle.zip"
    with mock.patch.dict(os.environ, signed.environment):
        status, _, err = attrail("export", signed.run_id, "--out", bundle, "--trust", tmp_path / "trust.toml")
    assert status == 2
    assert "may not sign a bundle: the policy trusts it for journal, verdict alone" in err
    assert not bundle.exists()


def test_a_key_is_shown_as_an_entry_of_a_policy_file(
    signed: Signed, attrail: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one in the folder where the command is given, so that the entry can be taken as it is."""
    monkeypatch.chdir(signed.folder.parent)
    status, out, _ = attrail("keys", "show", f"{signed.folder.name}/audit.pub")
    assert status == 0
    Path("gate.toml").write_text(out)
    assert list(read_trusted_keys(Path("gate.toml"))) == list(read_trusted_keys(signed.trust))
    assert attrail("keys", "new", signed.folder / "audit")[0] == 2


def test_a_damaged_journal_is_begun_anew(signed: Signed, attrail: Run, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    for name in ("journal.jsonl", "journal.jsonl.head"):
        shutil.copy(signed.folder / name, tmp_path / name)
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert attrail("verify", path, "--trust", signed.trust)[0] == 1
    with mock.patch.dict(os.environ, signed.environment):
        status, out, err = attrail("journal", "restart", path, "--reason", "somebody cut it")
    assert status == 0, err
    assert "journal.jsonl.damaged-1 is kept" in out
    status, out, _ = attrail("verify", path, "--trust", signed.trust)
    assert status == 0
    assert "somebody cut it" in out


def test_no_private_key_reaches_mlflow(signed: Signed) -> None:
    private = (signed.folder / "audit").read_bytes().splitlines()[1]
    for path in signed.artifacts.rglob("*"):
        if path.is_file():
            assert private not in path.read_bytes()
            assert b"open sesame" not in path.read_bytes()
