"""The chain of a journal: every record carries the hash of the one before, wherever the lines are kept.

A line is one record as canonical JSON. The chain alone shows accidents and clumsy changes: who can rewrite one record
can rewrite all that follow. Signed records tie the chain to a key; ``journal`` says what even that does not show.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from attrail_explainers.digest import digest_of_bytes
from attrail_explainers.errors import EvidenceError, RecordError
from attrail_mlflow.signing.canonical_json import decode_object, encode
from attrail_mlflow.signing.fields import (
    Reader,
    anything,
    digest,
    mapped,
    moment,
    number,
    optional,
    plain,
    text,
    with_fields,
)

FORMAT = "attrail.journal/1"


class Event(StrEnum):
    """What a journal records."""

    START = "start"
    POLICY = "policy"
    AUDIT = "audit"
    BASELINE = "baseline"
    WAIVER = "waiver"
    FLOOR = "floor"
    SIGN_OFF = "sign-off"
    GATE_ALLOWED = "gate-allowed"
    GATE_REFUSED = "gate-refused"
    RESTART = "restart"
    TORN = "torn"


@dataclass(frozen=True)
class ChainPosition:
    """Where a record stands: its index and the hash of the record before it."""

    index: int
    previous: str


BEGINNING = ChainPosition(0, "sha256:" + "0" * 64)


@dataclass(frozen=True)
class JournalRecord:
    """One thing that happened: what, when (UTC, to the second), by whom, and the hash of the record before.

    ``signature`` is over ``content``, with the keys ``keyid`` and ``sig``, and counts into the record's own hash.
    """

    index: int
    time: datetime
    event: str
    actor: str
    body: Mapping[str, Any]
    previous: str
    signature: Mapping[str, str] | None = None

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the record's canonical text without this hash."""
        return digest_of_bytes(encode(self._document()))

    @property
    def content(self) -> bytes:
        """What is signed: the record's canonical text without signature and hash."""
        document = self._document()
        del document["signature"]
        return encode(document)

    @property
    def line(self) -> bytes:
        """The record as it is kept, without a newline."""
        return encode(self._document() | {"hash": self.hash})

    @property
    def place(self) -> ChainPosition:
        """Where the record stands."""
        return ChainPosition(self.index, self.previous)

    @property
    def next(self) -> ChainPosition:
        """Where the record after this one stands."""
        return ChainPosition(self.index + 1, self.hash)

    def _document(self) -> dict[str, Any]:
        found: dict[str, Any] = plain({each.name: getattr(self, each.name) for each in dataclasses.fields(self)})
        return found


def record_at(place: ChainPosition, event: Event, actor: str, body: Mapping[str, Any], time: datetime) -> JournalRecord:
    """A new record; RecordError when JSON cannot hold its body."""
    found = JournalRecord(place.index, time.replace(microsecond=0), event, actor, body, place.previous)
    try:
        return record_of(found.line)
    except (ValueError, EvidenceError) as error:
        raise RecordError(f"a {event} record cannot be written to the journal: {error}") from error


def record_of(line: bytes) -> JournalRecord:
    """The record of a line, its own hash checked; EvidenceError says what is wrong with it."""
    try:
        fields = _RECORD(decode_object(line), "record")
    except ValueError as error:
        raise EvidenceError(f"it cannot be read: {error}") from error
    stated = fields.pop("hash")
    found = JournalRecord(**fields)
    if found.hash != stated:
        raise EvidenceError(f"record {found.index} was altered: its hash is not that of its content")
    return found


def checked(lines: Iterable[bytes], first: ChainPosition | None = BEGINNING) -> Iterator[JournalRecord]:
    """The records of consecutive lines, each held against the one before.

    ``first`` is where the first line must stand, None for an excerpt that begins anywhere. Raises EvidenceError naming
    the first line that was altered, removed, inserted or moved.
    """
    expected = first
    for row, line in enumerate(lines, start=1):
        try:
            record = record_of(line)
            _require_place(record, expected or record.place)
        except EvidenceError as error:
            raise EvidenceError(f"journal, line {row}: {error}") from error
        expected = record.next
        yield record


def _require_place(record: JournalRecord, expected: ChainPosition) -> None:
    if record.index != expected.index:
        raise EvidenceError(
            f"record {expected.index} was expected, found record {record.index}: records were removed, added or moved"
        )
    if record.previous != expected.previous:
        raise EvidenceError(f"record {record.index} does not follow the one before it: one of them was replaced")
    if (record.event == Event.START) != (record.index == 0):
        raise EvidenceError("the first record of a journal, and no other, must be a start record")
    if record.index == 0 and record.previous != BEGINNING.previous:
        raise EvidenceError("the first record of a journal must follow nothing")


_RECORD: Reader[dict[str, Any]] = with_fields(
    {
        "index": number,
        "time": moment,
        "event": text,
        "actor": text,
        "body": mapped(anything),
        "previous": digest,
        "signature": optional(with_fields({"keyid": digest, "sig": text}, dict)),
        "hash": digest,
    },
    dict,
)
