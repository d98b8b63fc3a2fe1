"""Bundles: the same evidence gives the same file, anybody can open it, and what is wrong with one is named."""

import hashlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from small_audit import NOW, RUN_ID, Small, document, signer_of, trusted_of, write_run, write_small

from attrail_explainers.errors import ConfigError, EvidenceError
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import Journal, read_journal
from attrail_mlflow.signing.canonical_json import encode
from attrail_mlflow.signing.envelope import read_envelope
from attrail_mlflow.signing.keys import signer_pem
from attrail_mlflow.signing.trusted_keys import TrustedKeys
from attrail_mlflow.statements.bundle_seal import Seal
from attrail_mlflow.statements.statement import statement_from
from attrail_mlflow.trail.archive import pack, unpack
from attrail_mlflow.trail.attestation import Trail
from attrail_mlflow.trail.bundle import sealed_files, write_bundle
from attrail_mlflow.trail.inspection import inspect_bundle, inspect_evidence, inspect_run
from attrail_mlflow.trail.manifest import manifest_digest, require_manifest, write_manifest


def repacked(bundle: Path, folder: Path, change: Callable[[Path], None]) -> Path:
    """The bundle with its files changed and packed again, as who knows the container would."""
    unpack(bundle, folder)
    change(folder)
    out = bundle.with_name("forged.zip")
    with out.open("wb") as target:
        pack({path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}, target)
    return out


def test_an_honest_bundle_is_right_and_says_whose_it_is(small: Small) -> None:
    found = inspect_evidence(small.bundle, small.trusted)
    said = "\n".join(found.facts)
    assert found.signed
    assert not found.cautions
    assert "PASS for digits/7 against digits/1" in said
    assert "statement.json signed at" in said
    assert "owner 0" in said
    assert "record 1: policy of this run" in said
    assert "record 2: audit of this run" in said


def test_with_its_own_keys_it_only_shows_that_nothing_changed(small: Small) -> None:
    found = inspect_bundle(small.bundle, None)
    assert found.signed
    assert "give the trusted keys" in " ".join(found.cautions)


def test_the_same_evidence_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_small(tmp_path / name) for name in "ab")
    for each in (first, second):  # times of signing are what may differ between two audits
        (each.run / "statement.json").write_bytes((first.run / "statement.json").read_bytes())
    bundles = []
    for each in (first, second):
        out = tmp_path / f"{each.run.parent.name}.zip"
        write_bundle(each.run, out, replace(each.trail, journal=None), each.trusted, (), NOW)
        bundles.append(out.read_bytes())
    assert bundles[0] == bundles[1]


def test_any_program_can_open_it(small: Small) -> None:
    listing = subprocess.run(
        [sys.executable, "-m", "zipfile", "-t", str(small.bundle)], capture_output=True, text=True, check=True
    )
    assert "Done testing" in listing.stdout
    with zipfile.ZipFile(small.bundle) as archive:
        manifest = json.loads(archive.read("attrail/manifest.json"))
        for name, digest in manifest.items():
            assert hashlib.sha256(archive.read(f"attrail/{name}")).hexdigest() == digest


def test_a_bundle_is_never_overwritten(small: Small) -> None:
    before = small.bundle.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        write_bundle(small.run, small.bundle, small.trail, small.trusted)
    assert small.bundle.read_bytes() == before


def test_without_a_key_it_is_whole_but_says_that_nobody_signed(tmp_path: Path) -> None:
    write_run(tmp_path / "run", Trail())
    write_bundle(tmp_path / "run", tmp_path / "bundle.zip", Trail(), TrustedKeys())
    found = inspect_bundle(tmp_path / "bundle.zip", None)
    assert not found.signed
    assert "NOT SIGNED" in " ".join(found.cautions)
    assert not (tmp_path / "run" / "signer.pem").exists()


def test_only_the_journals_part_about_the_run_goes_along(small: Small) -> None:
    with zipfile.ZipFile(small.bundle) as archive:
        lines = archive.read("journal.jsonl").splitlines()
    kept = list(small.journal.read_bytes().splitlines())
    assert lines == kept[1:]
    other = small.trail.journal.append(Event.AUDIT, "me", {"run_id": "another"})
    out = small.bundle.with_name("later.zip")
    write_bundle(small.run, out, small.trail, small.trusted, read_journal(JournalFile(small.journal), small.trusted))
    with zipfile.ZipFile(out) as archive:
        assert other.line not in archive.read("journal.jsonl").splitlines()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("attrail/measurements.csv", "'measurements.csv' was altered"),
        ("attrail/maps/validation/gradcam/candidate.safetensors", "candidate.safetensors' was altered"),
        ("attrail/audit.json", "'audit.json' was altered"),
        ("attrail/manifest.json", "manifest.json"),
        ("attrail/statement.json", "'attrail/statement.json' was altered"),
        ("journal.jsonl", "'journal.jsonl' was altered"),
        ("control_map.json", "'control_map.json' was altered"),
        ("bundle.json", "bundle.json"),
    ],
)
def test_the_file_that_was_altered_is_named(small: Small, tmp_path: Path, name: str, says: str) -> None:
    def change(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-3] + b"~" + content[-2:])

    with pytest.raises(EvidenceError, match=says):
        inspect_bundle(repacked(small.bundle, tmp_path / "files", change), small.trusted)


def test_files_that_are_missing_or_added_are_named(small: Small, tmp_path: Path) -> None:
    for number, (change, says) in enumerate(
        [
            (lambda folder: (folder / "attrail/report.html").unlink(), "'report.html' is missing"),
            (lambda folder: (folder / "attrail/note.txt").write_text("x"), "'note.txt' was added"),
            (lambda folder: (folder / "note.txt").write_text("x"), "'note.txt' was added"),
            (lambda folder: (folder / "journal.jsonl").unlink(), "'journal.jsonl' is missing"),
            (lambda folder: (folder / "attrail/manifest.json").unlink(), "manifest.json is missing"),
            (lambda folder: (folder / "bundle.json").unlink(), "bundle.json is missing"),
        ]
    ):
        with pytest.raises(EvidenceError, match=says):
            inspect_bundle(repacked(small.bundle, tmp_path / str(number), change), small.trusted)


def test_a_manifest_made_anew_is_not_the_one_that_was_signed(small: Small) -> None:
    (small.run / "measurements.csv").write_bytes(b"slice,explainer,value\n")
    write_manifest(small.run)
    with pytest.raises(EvidenceError, match=r"statement\.json is about another manifest\.json"):
        inspect_run(small.run, small.trusted)


def test_a_record_that_says_something_else_than_the_statement_is_named(tmp_path: Path) -> None:
    """The signer himself changed audit.json after he signed a statement, and made manifest and statement anew."""
    signer = signer_of("auditor")
    for number, change in enumerate(
        [
            {"verdict": "DRIFT"},
            {"reason": "another"},
            {"change": "fine-tune"},
            {"explainers": []},
            {"slices": []},
            {"run_id": "other"},
        ]
    ):
        folder = tmp_path / str(number)
        write_run(folder, Trail(signer))
        (folder / "audit.json").write_text(json.dumps(document() | change))
        _attest_anew(folder, Trail(signer))
        with pytest.raises(EvidenceError, match=f"disagree about {next(iter(change))}"):
            inspect_run(folder, trusted_of(signer))


def test_a_policy_changed_after_the_run_is_named(tmp_path: Path) -> None:
    signer = signer_of("auditor")
    for number, name in enumerate(["audit.json", "policy.json"]):
        folder = tmp_path / str(number)
        write_run(folder, Trail(signer))
        changed = json.loads((folder / name).read_text())
        changed.get("policy", changed)["alpha"] = 0.5
        (folder / name).write_text(json.dumps(changed))
        _attest_anew(folder, Trail(signer))
        with pytest.raises(EvidenceError, match="policy"):
            inspect_run(folder, trusted_of(signer))


def _attest_anew(folder: Path, trail: Trail) -> None:
    """The statement as it was, but about a manifest of the files as they are now."""
    statement = statement_from(read_envelope((folder / "statement.json").read_bytes()).payload)
    write_manifest(folder)
    (folder / "statement.json").write_bytes(trail.signed(replace(statement, manifest_digest=manifest_digest(folder))))


def test_a_statement_of_another_kind_is_no_seal(small: Small, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        (folder / "bundle.json").write_bytes((folder / "attrail/statement.json").read_bytes())

    with pytest.raises(EvidenceError, match="a bundle's seal was expected"):
        inspect_bundle(repacked(small.bundle, tmp_path / "files", change), small.trusted)


def test_evidence_of_another_run_is_no_evidence_of_this(small: Small, tmp_path: Path) -> None:
    """Every part is genuine, signed by the trusted key, and from another audit."""
    write_run(tmp_path / "other", small.trail, document(run_id="0" * 32, reason="another audit"))

    def change(folder: Path) -> None:
        for name in ("statement.json", "manifest.json"):
            (folder / "attrail" / name).write_bytes((tmp_path / "other" / name).read_bytes())
        _sealed_anew(small, folder)

    with pytest.raises(EvidenceError, match=r"'audit\.json' was altered"):
        inspect_bundle(repacked(small.bundle, tmp_path / "files", change), small.trusted)


@pytest.mark.parametrize("name", ["../outside", "/outside", "a//b", "a/./b", "a\\b", "c:d", "", "a/../../b"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), b"x")
    with pytest.raises(EvidenceError, match="bundle"):
        unpack(path, tmp_path / "files")
    assert not (tmp_path / "outside").exists()


def test_other_containers_are_refused(small: Small, tmp_path: Path) -> None:
    with zipfile.ZipFile(small.bundle) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}

    def written(method: int, names: list[str], comment: bytes = b"") -> Path:
        path = tmp_path / "other.zip"
        with zipfile.ZipFile(path, "w", method) as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name], method)
            archive.comment = comment
        return path

    ordered = sorted(files)
    for path, says in (
        (lambda: written(zipfile.ZIP_DEFLATED, ordered), "compressed"),
        (lambda: written(zipfile.ZIP_STORED, ordered[::-1]), "order"),
        (lambda: written(zipfile.ZIP_STORED, ordered, b"hello"), "container"),
        (lambda: written(zipfile.ZIP_STORED, ordered), "container"),
    ):
        with pytest.raises(EvidenceError, match=says):
            inspect_bundle(path(), small.trusted)


def test_a_name_that_comes_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"one")
        archive.writestr("b", b"other")
    path.write_bytes(path.read_bytes().replace(b"b", b"a"))
    with pytest.raises(EvidenceError, match="twice"):
        unpack(path, tmp_path / "files")


def test_other_files_are_neither_bundle_nor_journal(tmp_path: Path) -> None:
    for content in (b"", b"hello", b"\x89PNG"):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(EvidenceError, match="neither a bundle nor a journal"):
            inspect_evidence(tmp_path / "file", None)


def test_a_link_in_a_runs_folder_is_no_evidence(small: Small) -> None:
    report = small.run / "report.html"
    content = report.read_bytes()
    report.unlink()
    (small.run.parent / "elsewhere.html").write_bytes(content)
    report.symlink_to(small.run.parent / "elsewhere.html")
    with pytest.raises(EvidenceError, match="symbolic link"):
        require_manifest(small.run)


def test_no_private_key_is_in_the_evidence(small: Small) -> None:
    private = small.trail.signer.private_bytes
    raw = small.trail.signer._private_key.private_bytes_raw()
    for path in [*small.run.rglob("*"), small.bundle, small.journal]:
        if path.is_file():
            content = path.read_bytes()
            assert b"PRIVATE KEY" not in content
            assert private not in content
            assert raw not in content


def test_the_seal_is_canonical(small: Small) -> None:
    with zipfile.ZipFile(small.bundle) as archive:
        seal = archive.read("bundle.json")
    assert encode(json.loads(seal)) == seal


def _sealed_anew(small: Small, folder: Path) -> None:
    (folder / "bundle.json").write_bytes(small.trail.signed(Seal(NOW, RUN_ID, sealed_files(folder))))


def test_who_seals_a_bundle_cannot_vouch_for_a_journal_that_others_wrote(small: Small, tmp_path: Path) -> None:
    store = JournalFile(tmp_path / "other.jsonl")
    Journal(store, signer_of("somebody else")).append(Event.GATE_ALLOWED, "me", {"run_id": RUN_ID})
    out = tmp_path / "bundle.zip"
    write_bundle(small.run, out, small.trail, small.trusted, read_journal(store, None), NOW)
    with pytest.raises(EvidenceError, match="not trusted"):
        inspect_bundle(out, small.trusted)


def test_a_control_map_that_names_what_is_not_there_is_wrong(small: Small, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        document = json.loads((folder / "control_map.json").read_text())
        document["controls"][0]["artifact"] = "attrail/approval.pdf"
        (folder / "control_map.json").write_text(json.dumps(document))
        _sealed_anew(small, folder)

    with pytest.raises(EvidenceError, match=r"attrail/approval\.pdf"):
        inspect_bundle(repacked(small.bundle, tmp_path / "files", change), small.trusted)


def test_a_key_under_anothers_id_is_named(small: Small, tmp_path: Path) -> None:
    def change(folder: Path) -> None:
        (path,) = (folder / "keys").iterdir()
        path.write_bytes(signer_pem(signer_of("somebody else")))
        _sealed_anew(small, folder)

    with pytest.raises(EvidenceError, match="it was replaced"):
        inspect_bundle(repacked(small.bundle, tmp_path / "files", change), None)


@pytest.mark.parametrize(
    ("event", "body", "says"),
    [
        (Event.AUDIT, {"run_id": RUN_ID, "verdict": "DRIFT"}, "says something else of this audit"),
        (Event.POLICY, {"run_id": RUN_ID, "policy_digest": "sha256:" + "0" * 64}, "states another policy"),
    ],
)
def test_a_journal_that_contradicts_the_statement_is_named(small: Small, event: Event, body: dict, says: str) -> None:
    small.trail.note(event, body)
    out = small.bundle.with_name("other.zip")
    write_bundle(small.run, out, small.trail, small.trusted, read_journal(JournalFile(small.journal), small.trusted))
    with pytest.raises(EvidenceError, match=says):
        inspect_bundle(out, small.trusted)
