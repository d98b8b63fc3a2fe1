"""Inspection: is this evidence what it was, and whose is it? Without a server, naming the first thing that is wrong.

Every function raises EvidenceError, or GateRefusal from a statement's signature, at the first thing that is wrong, and
otherwise returns what it saw. Integrity and authenticity are two things: evidence that carries its own keys can only
show that nothing changed since somebody signed it; who that was needs a trusted key from elsewhere.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import AttrailError, ConfigError, EvidenceError, GateRefusal
from attrail_explainers.files.plain_file import open_plain, read_plain
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.hash_chain import Event, JournalRecord, checked
from attrail_mlflow.journal.journal import Store, read_journal, require_signed
from attrail_mlflow.signing.envelope import read_envelope
from attrail_mlflow.signing.fields import plain
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.signing.trusted_keys import TrustedKey, TrustedKeys, embedded
from attrail_mlflow.statements.bundle_seal import Seal
from attrail_mlflow.statements.predicate import Predicate, bare
from attrail_mlflow.statements.statement import statement_from
from attrail_mlflow.statements.verdict import Binding, VerdictStatement, statement_of
from attrail_mlflow.statements.verification import open_statement
from attrail_mlflow.trail.archive import unpack
from attrail_mlflow.trail.attestation import SIGNER, audit_body
from attrail_mlflow.trail.bundle import JOURNAL, KEYS, RUN, SEAL, Attested, attested_in, sealed_files
from attrail_mlflow.trail.control_map import CONTROL_MAP, read_control_map, require_answered
from attrail_mlflow.trail.manifest import STATEMENT_FILE, manifest_digest, require_manifest

AUDIT = "audit.json"
POLICY = "policy.json"
LONGEST = 1024**3  # bytes of one file that is read as a whole


@dataclass(frozen=True)
class Inspection:
    """What was seen: ``facts`` hold, ``cautions`` limit what they prove, ``signed`` says whether anybody vouches."""

    facts: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()
    signed: bool = True

    def __add__(self, other: "Inspection") -> "Inspection":
        facts, cautions = (*self.facts, *other.facts), dict.fromkeys((*self.cautions, *other.cautions))
        return Inspection(facts, tuple(cautions), self.signed and other.signed)


def inspect_evidence(path: Path, trusted: TrustedKeys | None) -> Inspection:
    """Inspect a file, whatever it is: a bundle or a journal; or a folder with a run's files.

    ``trusted`` None means the keys that the evidence itself carries. Raises EvidenceError for any other file, and
    ConfigError for what is no file or cannot be read.
    """
    if path.is_dir():
        return inspect_run(path, trusted)
    try:
        with open_plain(path) as file:
            start = file.read(2)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if start == b"PK":
        return inspect_bundle(path, trusted)
    if start[:1] == b"{":
        return inspect_journal(path, trusted)
    raise EvidenceError(f"{path} is neither a bundle nor a journal, or its beginning was altered")


def inspect_bundle(path: Path, trusted: TrustedKeys | None) -> Inspection:
    """Inspect a bundle: container, seal, control map, the run's files, the journal's excerpt."""
    with tempfile.TemporaryDirectory(prefix="attrail-") as scratch:
        folder = Path(scratch)
        names = unpack(path, folder)
        keys = _keys_in(folder) if trusted is None else trusted
        sealed = _seal(folder, keys)
        run = inspect_run(folder / RUN, keys)
        require_answered(read_control_map(_text(folder, CONTROL_MAP)), names)
        found = sealed + run + _excerpt(folder, keys)
    return _own_keys(found) if trusted is None else found


def inspect_run(folder: Path, trusted: TrustedKeys | None) -> Inspection:
    """Inspect a run's files: manifest, statement and its signature, the record and policy against the statement."""
    manifest = require_manifest(folder)
    keys = TrustedKeys.of(_embedded(folder, [SIGNER])) if trusted is None else trusted
    statement, seen = _statement(folder, STATEMENT_FILE, keys)
    if getattr(statement, "manifest_digest", None) != manifest_digest(folder):
        raise EvidenceError(f"{STATEMENT_FILE} is about another manifest.json: one of them was replaced")
    found = Inspection((f"{len(manifest)} files as manifest.json lists them",)) + seen
    if isinstance(statement, VerdictStatement):
        found += _record(folder, statement)
    return _own_keys(found) if trusted is None else found


def inspect_journal(path: Path, trusted: TrustedKeys | None) -> Inspection:
    """Inspect a journal file: the chain, every signature, the head, and the torn lines it set aside."""
    return inspect_store(JournalFile(path), trusted)


def inspect_store(store: Store, trusted: TrustedKeys | None) -> Inspection:
    """Inspect a journal wherever it is kept."""
    records, signed, notes = 0, True, list[str]()
    for record in read_journal(store, trusted):
        if isinstance(store, JournalFile):
            store.require_torn(record)
        records, signed = records + 1, signed and record.signature is not None
        notes += _restarts(record)
    if records == 0:
        raise EvidenceError("the journal has no records")
    who = "each signed by a trusted key" if trusted is not None else "signatures not checked"
    cautions = () if trusted is not None else ("give the trusted keys to see who wrote this journal",)
    return Inspection((f"{records} records in one chain, {who}; it ends as its head says", *notes), cautions, signed)


def _restarts(record: JournalRecord) -> list[str]:
    """What must be looked for elsewhere: a journal that this one replaced, or a line that a crash tore."""
    if record.event not in (Event.RESTART, Event.TORN):
        return []
    why = record.body.get("reason", "a line was torn")
    return [
        f"record {record.index}, {record.event}: {why}; see {record.body.get('file')} ({record.body.get('sha256')})"
    ]


def _statement(folder: Path, name: str, keys: TrustedKeys) -> tuple[Predicate, Inspection]:
    """The statement in a file and who signed it; an unsigned one is read and said to be unsigned."""
    envelope = _bytes(folder, name)
    try:
        statement = open_statement(envelope, keys)
    except GateRefusal as error:
        if error.reason != Reason.UNSIGNED:
            raise EvidenceError(f"{name}: {error}") from error
        unsigned = Inspection((), (f"{name} is NOT SIGNED: anybody could have written it",), signed=False)
        return statement_from(read_envelope(envelope).payload), unsigned
    ids = sorted(read_envelope(envelope).signatures)
    owners = ", ".join(f"{key.owner} ({key.id})" for key in keys if key.id in ids)
    return statement, Inspection((f"{name} signed at {statement.issued:%Y-%m-%d %H:%M:%S} UTC by {owners}",))


def _record(folder: Path, statement: VerdictStatement) -> Inspection:
    """The audit's record says what the statement says, and its policy has the digest that both name."""
    try:
        document = json.loads(_bytes(folder, AUDIT))
        policy = json.loads(_bytes(folder, POLICY))
        recorded = {key: document["policy"][key] for key in policy}
        _require_same(document, statement)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EvidenceError(f"{AUDIT} or {POLICY} is not what an audit leaves: {error!r}") from error
    if not digest_of(policy) == digest_of(recorded) == statement.policy_digest:
        raise EvidenceError(f"{POLICY} or the policy in {AUDIT} has another digest than {statement.policy_digest}")
    verdict = f"{statement.verdict} for {statement.model.label} against {statement.reference.label}"
    until = f"valid until {statement.expires:%Y-%m-%d %H:%M:%S} UTC"
    return Inspection((f"{verdict}, {until}", f"policy {statement.policy_digest}, re-computed"))


def _require_same(document: Mapping[str, Any], statement: VerdictStatement) -> None:
    names = (each for each in Binding.__dataclass_fields__)
    binding = Binding(**{name: getattr(statement, name) for name in names})
    try:
        recorded = statement_of(document, binding).document()
    except AttrailError as error:
        raise EvidenceError(f"{AUDIT} and {STATEMENT_FILE}: {error}") from error
    for key, stated in statement.document().items():
        if plain(recorded[key]) != stated:
            raise EvidenceError(f"{AUDIT} and {STATEMENT_FILE} disagree about {key}: {recorded[key]!r} and {stated!r}")


def _seal(folder: Path, keys: TrustedKeys) -> Inspection:
    statement, seen = _statement(folder, SEAL, keys)
    if not isinstance(statement, Seal):
        raise EvidenceError(f"{SEAL} is a {statement.KIND} statement, a bundle's seal was expected")
    found = sealed_files(folder)
    for name in sorted(set(found) | set(statement.files)):
        if name not in found:
            raise EvidenceError(f"the file {name!r} is missing; {SEAL} lists it")
        if name not in statement.files:
            raise EvidenceError(f"the file {name!r} was added: {SEAL} does not list it")
        if found[name] != statement.files[name]:
            raise EvidenceError(f"the file {name!r} was altered: its sha256 is not the one in {SEAL}")
    return seen


def _excerpt(folder: Path, keys: TrustedKeys) -> Inspection:
    """The journal's excerpt is a piece of a chain, and says of this audit what its statement says."""
    if not (folder / JOURNAL).exists():
        return Inspection((), ("the bundle holds no journal records",))
    records = list(checked(_lines(folder), first=None))
    signed = [record for record in records if record.signature is not None]
    for record in signed:
        require_signed(record, keys)
    cautions = () if signed == records else ("the journal's records are NOT SIGNED",)
    span = f"journal records {records[0].index} to {records[-1].index} in one chain"
    noted = _noted(records, attested_in(folder / RUN), _bytes(folder, f"{RUN}/{STATEMENT_FILE}"))
    return Inspection((span, *noted), cautions, signed == records)


def _noted(records: list[JournalRecord], statement: Attested, envelope: bytes) -> Iterator[str]:
    """What the records say of this run: its own policy, and in the last of an audit what its statement says."""
    mine = [each for each in records if each.body.get("run_id") == statement.run_id]
    for record in mine:
        if record.event == Event.POLICY and record.body.get("policy_digest") != statement.policy_digest:
            raise EvidenceError(f"journal, record {record.index} states another policy than {STATEMENT_FILE}")
        when = f"{record.time:%Y-%m-%d %H:%M:%S}"
        yield f"record {record.index}: {record.event} of this run, by {record.actor} at {when} UTC"
    audits = [each for each in mine if each.event == Event.AUDIT]
    if not audits:
        return
    if not isinstance(statement, VerdictStatement):
        raise EvidenceError(f"a {statement.KIND} statement is no audit's")
    if dict(audits[-1].body) != audit_body(statement, envelope):
        raise EvidenceError(
            f"journal, record {audits[-1].index} says something else of this audit than {STATEMENT_FILE}"
        )


def _lines(folder: Path) -> Iterator[bytes]:
    content = _bytes(folder, JOURNAL)
    if not content.endswith(b"\n"):
        raise EvidenceError(f"{JOURNAL}: its last line is torn")
    yield from content[:-1].split(b"\n")


def _keys_in(folder: Path) -> TrustedKeys:
    """The keys a bundle carries, under the ids that their files' names say."""
    names = sorted(f"{KEYS}/{path.name}" for path in (folder / KEYS).glob("*"))
    keys = list(_embedded(folder, names))
    for name, key in zip(names, keys, strict=True):
        if name != f"{KEYS}/{bare(key.id)}.pem":
            raise EvidenceError(f"{name} holds the key {key.id}: it was replaced")
    return TrustedKeys.of([*keys, *_embedded(folder, [f"{RUN}/{SIGNER}"])])


def _embedded(folder: Path, names: list[str]) -> Iterator[TrustedKey]:
    for name in names:
        if (folder / name).is_file():
            try:
                yield embedded(_bytes(folder, name), name)
            except AttrailError as error:
                raise EvidenceError(str(error)) from error


def _own_keys(found: Inspection) -> Inspection:
    caution = "checked with the keys that the evidence itself carries: give the trusted keys to see whose they are"
    return found + Inspection((), (caution,)) if found.signed else found


def _text(folder: Path, name: str) -> str:
    return _bytes(folder, name).decode("utf-8", "replace")


def _bytes(folder: Path, name: str) -> bytes:
    try:
        return read_plain(folder / name, LONGEST)
    except FileNotFoundError as error:
        raise EvidenceError(f"{name} is missing") from error
    except OSError as error:
        raise EvidenceError(f"{name} cannot be read: {error}") from error
