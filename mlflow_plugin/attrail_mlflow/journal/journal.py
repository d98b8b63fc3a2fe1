"""Journal: what happened, appended and never changed: audits, gate decisions, waivers, policies.

A journal is a chain of records (``hash_chain``), each signed by who wrote it, and a head: a second copy of the last
record, which a journal that was cut short no longer agrees with. Both are kept by a ``Store``: a file
(``journal.file``) or a table of a database (``journal.table``).

What it shows: a record altered, removed, added or moved; a journal cut short. What it cannot show by itself: that its
owner, who has the key, wrote another journal, or put back older copies of lines and head together. For that, lodge the
head where the owner cannot change it: as an RFC 3161 timestamp (``openssl ts -query -data journal.jsonl.head -sha256
-cert``, sent to a timestamp authority, the reply kept), in somebody else's repository, or in a transparency log.
"""

import getpass
import itertools
import os
import socket
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature

from attrail_explainers.errors import EvidenceError, RecordError
from attrail_mlflow.journal.hash_chain import (
    BEGINNING,
    FORMAT,
    ChainPosition,
    Event,
    JournalRecord,
    checked,
    record_at,
    record_of,
)
from attrail_mlflow.signing.keys import signer_pem
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.signing.trusted_keys import TrustedKeys, embedded

LAST = 1000  # records looked at for the head; the copies lost in one crash are far fewer
RECORD_TYPE = "application/vnd.attrail.journal+json"  # keeps a record's signature from being taken for a statement's


class Transaction(Protocol):
    """Sole access to a store's end, for one append."""

    def backwards(self) -> Iterator[bytes]:
        """The whole lines, the last one first."""

    def head(self) -> bytes | None:
        """The copy of what was the last line after an append, None when there is none."""

    def set_aside(self) -> Mapping[str, Any] | None:
        """Move what a crash left of a half-written line out of the way; what was moved where, None if nothing was."""

    def append(self, line: bytes) -> None:
        """Keep a line and its copy for good: they survive a crash of the machine once this returns."""


class Store(Protocol):
    """Where a journal's lines and head are kept."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Lock the store against every other writer, in this process or another."""

    def lines(self) -> Iterator[bytes]:
        """Every line; EvidenceError when something is left that is no whole line."""

    def head(self) -> bytes | None:
        """The head, None when there is none."""


class Journal:
    """A journal in a store, appended to under one signer or, without one, unsigned.

    ``trusted`` are the keys of others who write the same journal, or wrote it before.
    """

    def __init__(self, store: Store, signer: CryptoSigner | None = None, trusted: TrustedKeys | None = None) -> None:
        self.store, self.signer = store, signer
        own = [embedded(signer_pem(signer), "this journal's writer")] if signer else []
        self.trusted = TrustedKeys.of([*(trusted or TrustedKeys()), *own])

    def append(self, event: Event, actor: str, body: Mapping[str, Any], time: datetime | None = None) -> JournalRecord:
        """Append one record, and before it one that says so if a crash left half a line.

        Raises RecordError when the journal does not end as its head says or its last record's signature is not
        trusted: a damaged journal is not written on, since new records would cover the damage. ``attrail journal
        restart`` begins a new one that names the old.
        """
        now = time or datetime.now(UTC)
        with self.store.transaction() as end:
            place = self._end(end)
            aside = end.set_aside()
            if place == BEGINNING:
                place = self._put(end, record_at(place, Event.START, actor, {"format": FORMAT}, now)).next
            if aside is not None:
                place = self._put(end, record_at(place, Event.TORN, actor, aside, now)).next
            return self._put(end, record_at(place, event, actor, body, now))

    def _end(self, end: Transaction) -> ChainPosition:
        """Where the next record goes, after a look at whether this is the journal that was left."""
        try:
            records = map(record_of, end.backwards())
            last = next(records, None)
            require_head(end.head(), itertools.chain([last] if last else [], itertools.islice(records, LAST)))
            if last is not None and (self.signer or last.signature):
                require_signed(last, self.trusted)
        except EvidenceError as error:
            raise RecordError(
                f"the journal is not written on, it was damaged: {error}; see attrail journal restart"
            ) from error
        return last.next if last else BEGINNING

    def _put(self, end: Transaction, record: JournalRecord) -> JournalRecord:
        signed = _signed(record, self.signer)
        end.append(signed.line)
        return signed


def read_journal(store: Store, trusted: TrustedKeys | None) -> Iterator[JournalRecord]:
    """Every record of a journal, chain, head and, unless ``trusted`` is None, signatures checked on the way.

    Raises EvidenceError naming the first thing that is wrong.
    """
    recent: deque[JournalRecord] = deque(maxlen=LAST)
    for record in checked(store.lines()):
        if trusted is not None:
            require_signed(record, trusted)
        recent.appendleft(record)
        yield record
    require_head(store.head(), recent)


def require_head(head: bytes | None, backwards: Iterable[JournalRecord]) -> None:
    """Raise EvidenceError unless the head is among the last records of a journal, given from its last one backwards.

    It need not be the very last: a crash may lose copies of lines that were kept. Else the journal was cut, or its end
    replaced.
    """
    copy = _copy(head)
    for record in backwards:
        if copy is None and record.index > 0:
            raise EvidenceError(f"the journal ends with record {record.index}, its head is missing")
        if copy is None or record.line == head:
            return
        if record.index < copy.index:
            raise EvidenceError(
                f"the journal ends with record {record.index}, its head is record {copy.index}: the journal was cut"
            )
        if record.index == copy.index:
            raise EvidenceError(f"the journal's record {copy.index} is not the one that its head is a copy of")
    if copy is not None:
        raise EvidenceError(f"the journal does not hold its head, record {copy.index}, among its last: it was cut")


def _copy(head: bytes | None) -> JournalRecord | None:
    try:
        return None if head is None else record_of(head)
    except EvidenceError as error:
        raise EvidenceError(f"the journal's head: {error}") from error


def require_signed(record: JournalRecord, trusted: TrustedKeys) -> None:
    """Raise EvidenceError unless a trusted key that may sign journals signed the record."""
    if record.signature is None:
        raise EvidenceError(f"journal, record {record.index} is not signed")
    key = trusted.get(record.signature["keyid"])
    if key is None or Kind.JOURNAL not in key.may:
        raise EvidenceError(f"journal, record {record.index}: its signer {record.signature['keyid']} is not trusted")
    signature = Signature(key.id, record.signature["sig"])
    try:
        key.verifier.verify_signature(signature, _encoded(record))
    except UnverifiedSignatureError as error:
        raise EvidenceError(f"journal, record {record.index}: its signature does not fit") from error


def this_actor() -> str:
    """Who runs this process, as journals name them: ``ATTRAIL_ACTOR``, else user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = f"uid {os.getuid()}"
    return os.environ.get("ATTRAIL_ACTOR") or f"{user}@{socket.gethostname()}"


def _signed(record: JournalRecord, signer: CryptoSigner | None) -> JournalRecord:
    if signer is None:
        return record
    signature = signer.sign(_encoded(record))
    return replace(record, signature={"keyid": signature.keyid, "sig": signature.signature})


def _encoded(record: JournalRecord) -> bytes:
    """The bytes that are signed: DSSE's encoding of the record's content under its own type."""
    encoded: bytes = Envelope(record.content, RECORD_TYPE, {}).pae()
    return encoded
