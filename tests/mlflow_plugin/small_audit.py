"""A small audit's files, statement and journal, written in milliseconds: the trail's tests need no model."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.signer import CryptoSigner

from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import Journal, read_journal
from attrail_mlflow.signing.keys import signer_pem, verifier_of
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.signing.trusted_keys import TrustedKey, TrustedKeys
from attrail_mlflow.statements.predicate import ModelIdentity
from attrail_mlflow.trail.attestation import Attestation, Trail
from attrail_mlflow.trail.bundle import write_bundle
from attrail_monitoring.verdict.policy import Policy

NOW = datetime(2026, 11, 21, 17, 6, 32, tzinfo=UTC)
RUN_ID = "5c7625910df547c7aecba7d51319f652"
FILES = {
    "report.html": b"<!doctype html><title>PASS</title>",
    "measurements.csv": b"slice,explainer,value\nvalidation,gradcam,0.1\nvalidation,lime,0.2\n",
    "config.json": b'{"registry": {"model": "digits"}}\n',
    "environment.json": b'{"python": "3.11.7"}\n',
    "slices/validation.csv": b"image,label,sha256\na.png,0,aa\nb.png,1,bb\nc.png,2,cc\n",
    "maps/validation/gradcam/reference.safetensors": bytes(range(200)),
    "maps/validation/gradcam/candidate.safetensors": bytes(range(200, 0, -1)),
    "overlays/validation/gradcam/01-a.png": b"\x89PNG" + bytes(50),
    "expectations/attributions.json": b'{"success": true}\n',
}


def digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def signer_of(name: str) -> CryptoSigner:
    """A signer whose key follows from a name, so that the same test signs the same bytes."""
    private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
    return CryptoSigner(private, verifier_of(private.public_key()))


def trusted_of(*signers: CryptoSigner, may: frozenset[Kind] = frozenset(Kind)) -> TrustedKeys:
    return TrustedKeys.of(TrustedKey(signer_pem(each), may, f"owner {row}") for row, each in enumerate(signers))


def model(version: str, **changes: Any) -> ModelIdentity:
    facts: dict[str, Any] = {
        "name": "digits",
        "version": version,
        "source": f"models:/m-{version}",
        "artifact_digest": digest(f"files {version}"),
        "weights_digest": digest(f"weights {version}"),
    }
    return ModelIdentity(**(facts | changes))


def document(verdict: str = "PASS", policy: Policy | None = None, **changes: Any) -> dict[str, Any]:
    """What audit.json holds: the keys that the trail relies on, and some that it does not."""
    policy = policy or Policy()
    facts: dict[str, Any] = {
        "format": "attrail.audit/2",
        "verdict": verdict,
        "reason": "every primary statistic stayed within its limit",
        "run_id": RUN_ID,
        "change": "retrain",
        "reference": _facts(model("1"), "reference"),
        "candidate": _facts(model("7"), "candidate"),
        "floor": [],
        "slices": [{"name": "validation", "digest": digest("pixels"), "images": 3}],
        "explainers": [{"name": "gradcam", "parameters": {"layer": "bn2", "share": 0.25, "steps": 10.0}}],
        "policy": asdict(policy) | {"allow_pickle": False},
        "policy_digest": policy.digest,
        "measurements": [{"primary": True, "floor_tier": "B", "value": 0.1, "verdict": verdict}],
    }
    return facts | changes


def write_run(folder: Path, trail: Trail, record: Mapping[str, Any] | None = None) -> Attestation:
    """Write an audit's files with manifest and statement, and return what they say."""
    record = record or document()
    policy = {key: value for key, value in record["policy"].items() if key != "allow_pickle"}
    documents = {"audit.json": record, "policy.json": policy}
    texts = {name: (json.dumps(value, indent=1) + "\n").encode() for name, value in documents.items()}
    for name, content in (FILES | texts).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return trail.attest(folder, record, model("7"), model("1"), ("champion",))


@dataclass(frozen=True)
class Small:
    """A run's folder, the bundle made of it, the journal, who signed and who is trusted."""

    run: Path
    bundle: Path
    journal: Path
    trail: Trail
    trusted: TrustedKeys


def write_small(folder: Path, records: int = 12) -> Small:
    """Write an audit, a journal of ``records`` records that tells of it, and its bundle; all signed by one key."""
    signer = signer_of("auditor")
    store = JournalFile(folder / "journal.jsonl")
    trail, trusted = Trail(signer, Journal(store, signer)), trusted_of(signer)
    trail.note_policy(RUN_ID, asdict(Policy()), Policy().digest)
    trail.note_audit(write_run(folder / "run", trail))
    for number in range(records - 4):
        body = {"model": {"name": "digits", "version": str(number % 9)}, "alias": "champion", "share": number / 7}
        trail.note(Event.GATE_REFUSED if number % 2 else Event.GATE_ALLOWED, body)
    trail.note(Event.GATE_ALLOWED, {"model": {"name": "digits", "version": "7"}, "alias": "champion"})
    bundle = folder / "bundle.zip"
    write_bundle(folder / "run", bundle, trail, trusted, read_journal(store, trusted), NOW)
    return Small(folder / "run", bundle, store.path, trail, trusted)


def _facts(identity: ModelIdentity, role: str) -> dict[str, str]:
    uri = f"models:/{identity.label}"
    weights = str(identity.weights_digest)
    return {
        "label": identity.label,
        "uri": uri,
        "weights_digest": weights,
        "role": role,
        "version": identity.version,
    }
