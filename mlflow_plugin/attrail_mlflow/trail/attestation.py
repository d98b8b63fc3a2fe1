"""Trail: how this process signs what it finds and where it writes that down, from environment variables.

::

    ATTRAIL_SIGNING_KEY              private key file made by ``attrail keys new``; without one statements are unsigned
    ATTRAIL_SIGNING_PASSPHRASE       its passphrase, or
    ATTRAIL_SIGNING_PASSPHRASE_FILE  a file whose first line is the passphrase
    ATTRAIL_STATEMENT_DAYS           how long a statement may let a promotion through, 30
    ATTRAIL_JOURNAL                  journal: a file, or the address of a database; without one nothing is journaled
    ATTRAIL_TRUSTED_KEYS             policy file with the keys of others who write that journal
    ATTRAIL_ACTOR                    who this is, in the journal; default user@machine
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from attrail_explainers.digest import digest_of_bytes
from attrail_explainers.errors import ConfigError, RecordError
from attrail_mlflow.gate.evidence_tags import LONGEST
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import Journal, this_actor
from attrail_mlflow.journal.location import store_at
from attrail_mlflow.signing.envelope import sign
from attrail_mlflow.signing.keys import environment_with_key, signer_from_environment, signer_pem
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.signing.trusted_keys import TrustedKeys, read_trusted_keys
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate
from attrail_mlflow.statements.statement import payload_of
from attrail_mlflow.statements.verdict import Binding, VerdictStatement, statement_of
from attrail_mlflow.trail.manifest import STATEMENT_FILE, manifest_digest, write_manifest

SIGNER = "signer.pem"
DAYS = "30"


@dataclass(frozen=True)
class Attestation:
    """What an audit's files were signed with: their manifest, the statement, and the envelope that holds it."""

    manifest: Mapping[str, str]
    statement: VerdictStatement
    envelope: bytes


@dataclass(frozen=True)
class Trail:
    """Who signs, how long a statement is good for, and the journal, if any."""

    signer: CryptoSigner | None = None
    journal: Journal | None = None
    valid_for: timedelta = timedelta(days=int(DAYS))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Trail":
        """The trail of the environment variables; ConfigError when one of them is wrong. Call it before computing."""
        environment = environment_with_key() if environment is None else environment
        signer = signer_from_environment(environment)
        path, trusted = environment.get("ATTRAIL_JOURNAL"), environment.get("ATTRAIL_TRUSTED_KEYS")
        keys = read_trusted_keys(Path(trusted)) if trusted else TrustedKeys()
        journal = Journal(store_at(path), signer, keys) if path else None
        return cls(signer, journal, timedelta(days=_days(environment.get("ATTRAIL_STATEMENT_DAYS", DAYS))))

    def signed(self, statement: Predicate) -> bytes:
        """The statement in an envelope, unsigned when there is no key."""
        return sign(payload_of(statement), [self.signer] if self.signer else [])

    def carried(self, statement: Predicate) -> bytes:
        """The envelope for a version's tag; RecordError, before anything is journaled, when it is too long for one."""
        envelope = self.signed(statement)
        if len(envelope) > LONGEST:
            raise RecordError(
                f"the signed {statement.KIND} has {len(envelope)} characters and MLflow keeps no tag longer than "
                f"{LONGEST}: "
                + (
                    "give a shorter reason"
                    if statement.KIND is Kind.WAIVER
                    else "judge fewer slices or explainers at once"
                )
            )
        return envelope

    def list_files(self, folder: Path) -> Mapping[str, str]:
        """Write signer.pem, if there is a key, and manifest.json beside a run's files, and return the manifest."""
        if self.signer is not None:
            (folder / SIGNER).write_bytes(signer_pem(self.signer))
        return write_manifest(folder)

    def attest(
        self,
        folder: Path,
        document: Mapping[str, Any],
        model: ModelIdentity,
        reference: ModelIdentity,
        reference_aliases: tuple[str, ...],
    ) -> Attestation:
        """Write signer.pem, manifest.json and statement.json beside an audit's files, and return what they say.

        ``document`` is what audit.json holds. Raises RecordError when it is about other weights than ``model`` or
        ``reference``, or when its statement is too long for a tag.
        """
        manifest = self.list_files(folder)
        now = datetime.now(UTC)
        binding = Binding(model, reference, reference_aliases, manifest_digest(folder), now, now + self.valid_for)
        statement = statement_of(document, binding)
        envelope = self.carried(statement)
        (folder / STATEMENT_FILE).write_bytes(envelope)
        return Attestation(manifest, statement, envelope)

    def note(self, event: Event, body: Mapping[str, Any]) -> None:
        """Append to the journal, if there is one."""
        if self.journal is not None:
            self.journal.append(event, this_actor(), body)

    def note_policy(self, run_id: str, policy: Mapping[str, Any], policy_digest: str) -> None:
        """Say in the journal which policy is about to judge: called before an audit computes anything."""
        self.note(Event.POLICY, {"run_id": run_id, "policy_digest": policy_digest, "policy": policy})

    def note_audit(self, attested: Attestation) -> None:
        """Say in the journal what an audit found."""
        self.note(Event.AUDIT, audit_body(attested.statement, attested.envelope))


def audit_body(statement: VerdictStatement, envelope: bytes) -> dict[str, Any]:
    """What the journal says of an audit: enough to find its run, and the envelope's digest, which binds the rest."""
    return {
        "run_id": statement.run_id,
        "model": {"name": statement.model.name, "version": statement.model.version},
        "reference": {"name": statement.reference.name, "version": statement.reference.version},
        "verdict": statement.verdict,
        "policy_digest": statement.policy_digest,
        "statement_digest": digest_of_bytes(envelope),
    }


def _days(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= 3650:
        raise ConfigError(f"ATTRAIL_STATEMENT_DAYS must be a whole number of days from 1 to 3650, got {text!r}")
    return int(text)
