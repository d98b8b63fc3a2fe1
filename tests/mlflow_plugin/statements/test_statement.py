"""Statements: in-toto's form, read back exactly, and refused by the name of what is wrong."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import in_toto_attestation.v1.statement_pb2 as spb
import pytest
from google.protobuf import json_format
from in_toto_attestation.v1.statement import STATEMENT_TYPE_URI, Statement
from small_audit import NOW, RUN_ID, digest, document, model, signer_of

from attrail_explainers.errors import EvidenceError, RecordError
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.journal import Journal
from attrail_mlflow.registry.folder_digest import digest_folder
from attrail_mlflow.signing.canonical_json import encode
from attrail_mlflow.signing.envelope import sign
from attrail_mlflow.signing.keys import signer_pem
from attrail_mlflow.statements.baseline import Baseline, InstrumentCheck
from attrail_mlflow.statements.bundle_seal import Seal
from attrail_mlflow.statements.predicate import Predicate
from attrail_mlflow.statements.statement import CLASSES, payload_of, statement_from
from attrail_mlflow.statements.verdict import Binding, statement_of
from attrail_mlflow.statements.waiver import Waiver
from attrail_mlflow.trail.attestation import Trail

PAGE = Path(__file__).resolve().parents[3] / "mlflow_plugin" / "VERIFY.md"
BINDING = Binding(model("7"), model("1"), ("champion",), digest("manifest"), NOW, NOW + timedelta(days=30))
CHECK = InstrumentCheck("validation", "gradcam", "random_head", True, {"distance": 0.9})
STATEMENTS: list[Predicate] = [
    statement_of(document(), BINDING),
    Waiver(NOW, NOW + timedelta(days=1), model("7"), "champion", "Ada", "outage of the current champion", "waiver-1"),
    Baseline(
        issued=NOW,
        expires=NOW + timedelta(days=30),
        model=model("1"),
        slices={"validation": digest("pixels")},
        explanations={"validation/gradcam": digest("maps")},
        checks=(CHECK,),
        policy_digest=digest("policy"),
        run_id=RUN_ID,
        manifest_digest=digest("manifest"),
    ),
    Seal(NOW, RUN_ID, {"journal.jsonl": digest("journal")}),
]
ids = pytest.mark.parametrize("statement", STATEMENTS, ids=lambda each: each.KIND)


def test_every_kind_is_tried_here() -> None:
    assert {type(each) for each in STATEMENTS} == set(CLASSES.values())


@ids
def test_what_is_written_is_read_back(statement: Predicate) -> None:
    assert statement_from(payload_of(statement)) == statement


@ids
def test_it_is_an_in_toto_statement(statement: Predicate) -> None:
    message = json_format.Parse(payload_of(statement), spb.Statement())
    Statement.copy_from_pb(message).validate()
    assert message.type == STATEMENT_TYPE_URI
    assert message.predicate_type == f"https://attrail.dev/{statement.KIND}/v1"
    names = {each.name: dict(each.digest) for each in message.subject}
    assert names == statement.subjects()


@ids
def test_its_subjects_have_digests_that_generic_verifiers_know(statement: Predicate) -> None:
    for each in json.loads(payload_of(statement))["subject"]:
        assert set(each["digest"]) == {"sha256"}
        assert len(bytes.fromhex(each["digest"]["sha256"])) == 32


def test_the_page_about_verifying_without_attrail_is_right(tmp_path: Path) -> None:
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    for name, text in blocks:
        (tmp_path / name).write_text(text)
    files = {"MLmodel": b"flavors: {}", "data/model.pt2": b"weights", "registered_model_meta": b"written by MLflow"}
    for name, content in files.items():
        (tmp_path / "model" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "model" / name).write_bytes(content)
    signer, bound = signer_of("auditor"), model("7", artifact_digest=digest_folder(tmp_path / "model"))
    (tmp_path / "audit.pub").write_bytes(signer_pem(signer))
    statement = statement_of(document(), replace(BINDING, model=bound))
    (tmp_path / "statement.json").write_bytes(sign(payload_of(statement), [signer]))
    listed = hashlib.sha256(run("files.py", "model", folder=tmp_path)).hexdigest()
    said = run("verify.py", folder=tmp_path).decode().splitlines()
    assert said[:2] == [f"signed by {signer.public_key.keyid}", f"{listed} models:/digits/7"]
    assert said[2].endswith(" attrail/manifest.json")


def run(*command: str, folder: Path) -> bytes:
    return subprocess.run([sys.executable, "-I", *command], cwd=folder, check=True, stdout=subprocess.PIPE).stdout


@ids
def test_statements_with_the_first_releases_subjects_are_read(statement: Any) -> None:
    document = json.loads(payload_of(statement))
    for each in document["subject"]:
        if each["name"].startswith("models:/"):
            about = statement.model
            own = {"attrailFiles": about.artifact_digest, "attrailWeights": about.weights_digest}
            each["digest"] = {name: found.removeprefix("sha256:") for name, found in own.items() if found}
    assert statement_from(encode(document)) == statement


@ids
def test_a_key_that_is_missing_or_unknown_is_named(statement: Predicate) -> None:
    honest = json.loads(payload_of(statement))
    for key in honest["predicate"]:
        changed = honest | {"predicate": {name: each for name, each in honest["predicate"].items() if name != key}}
        with pytest.raises(EvidenceError, match=f"'{key}' is missing"):
            statement_from(encode(changed))
    changed = honest | {"predicate": honest["predicate"] | {"also": 1}}
    with pytest.raises(EvidenceError, match="'also' is unknown"):
        statement_from(encode(changed))


@ids
def test_a_value_of_another_kind_is_named(statement: Predicate) -> None:
    honest = json.loads(payload_of(statement))
    for key in honest["predicate"]:
        for value in (None, 1.5, [1], {"a": [1]}):
            changed = honest | {"predicate": honest["predicate"] | {key: value}}
            with pytest.raises(EvidenceError, match=f"predicate.{key}"):
                statement_from(encode(changed))


@ids
def test_the_subject_must_be_what_the_predicate_is_about(statement: Predicate) -> None:
    honest = json.loads(payload_of(statement))
    other = [honest["subject"][0] | {"name": "models:/other/1"}, *honest["subject"][1:]]
    for subject in (other, [], honest["subject"] * 2):
        with pytest.raises(EvidenceError, match="subject"):
            statement_from(encode(honest | {"subject": subject}))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"_type": "https://in-toto.io/Statement/v0.1"}, "_type"),
        ({"predicateType": "https://attrail.dev/verdict/v2"}, "predicateType"),
        ({"predicateType": "https://slsa.dev/provenance/v1"}, "predicateType"),
        ({"predicateType": "https://attrail.dev/waiver/v1"}, "predicate"),
        ({"more": 1}, "'more' is unknown"),
    ],
)
def test_another_envelope_of_the_same_predicate_is_refused(change: dict[str, Any], says: str) -> None:
    with pytest.raises(EvidenceError, match=says):
        statement_from(encode(json.loads(payload_of(STATEMENTS[0])) | change))


@pytest.mark.parametrize("value", ["2026-13-01T00:00:00Z", "2026-11-21T17:06:32+01:00", "2026-11-21", "", 0])
def test_times_are_utc_to_the_second(value: object) -> None:
    honest = json.loads(payload_of(STATEMENTS[0]))
    with pytest.raises(EvidenceError, match="issued"):
        statement_from(encode(honest | {"predicate": honest["predicate"] | {"issued": value}}))


def test_a_statement_is_about_what_was_explained() -> None:
    for changed in (
        replace(BINDING, model=model("8")),
        replace(BINDING, model=model("7", weights_digest=digest("others"))),
        replace(BINDING, reference=model("1", weights_digest=None)),
    ):
        with pytest.raises(RecordError, match="audit again"):
            statement_of(document(), changed)


def test_the_tier_is_the_records_or_the_worst_measurements() -> None:
    rows = [{"floor_tier": tier, "primary": True} for tier in "ACB"]
    assert statement_of(document(measurements=rows), BINDING).tier == "C"
    assert statement_of(document(measurements=[*rows, {"floor_tier": "D", "primary": False}]), BINDING).tier == "C"
    assert statement_of(document(measurements=[*rows, {"floor_tier": "0", "primary": True}]), BINDING).tier == "0"
    assert statement_of(document(tier="A"), BINDING).tier == "A"
    assert statement_of(document(measurements=[]), BINDING).tier == "0"


def test_a_verdict_too_long_for_a_tag_is_said_before_anything_is_journaled(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    trail = Trail(signer_of("auditor"), Journal(JournalFile(path), signer_of("auditor")))
    explainers = [{"name": f"lime {number}", "parameters": {"text": "x" * 1000}} for number in range(100)]
    (tmp_path / "run").mkdir()
    with pytest.raises(RecordError, match=r"signed verdict has \d{6} characters .* judge fewer slices or explainers"):
        trail.attest(tmp_path / "run", document(explainers=explainers), model("7"), model("1"), ())
    assert not path.exists()
    assert not (tmp_path / "run" / "statement.json").exists()


def test_so_is_a_baseline() -> None:
    baseline = next(each for each in STATEMENTS if isinstance(each, Baseline))
    long = replace(baseline, slices={f"slice {number}": digest("pixels") for number in range(1500)})
    with pytest.raises(RecordError, match=r"signed baseline has .* MLflow keeps no tag longer than 100000"):
        Trail(signer_of("auditor")).carried(long)


def test_what_json_cannot_hold_is_refused_when_signing() -> None:
    explainers = [{"name": "lime", "parameters": {"width": float("nan")}}]
    with pytest.raises(EvidenceError, match="cannot be written"):
        payload_of(statement_of(document(explainers=explainers), BINDING))
