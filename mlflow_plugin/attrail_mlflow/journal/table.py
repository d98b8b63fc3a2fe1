"""A journal in two tables of a database, for servers whose processes share one: PostgreSQL, MySQL, SQLite.

One transaction holds the record and the head, so nothing is ever torn. The lines are a file's, byte for byte.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects.mysql import MEDIUMTEXT
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from attrail_explainers.errors import EvidenceError, RecordError
from attrail_mlflow.journal.hash_chain import record_of

METADATA = MetaData()
LONG = Text().with_variant(MEDIUMTEXT(), "mysql")  # its TEXT ends at 64 KiB
LINES = Table(
    "attrail_journal",
    METADATA,
    Column("record", BigInteger, primary_key=True, autoincrement=False),
    Column("line", LONG, nullable=False),
)
HEAD = Table(
    "attrail_journal_head",
    METADATA,
    Column("only", Integer, primary_key=True, autoincrement=False),
    Column("line", LONG),
)
_ONLY = HEAD.c.only == 1


@dataclass(frozen=True)
class JournalTable:
    """The store of a journal in a database; any number of processes and machines may append."""

    engine: Engine

    def create(self) -> None:
        """Make the tables if they are not there; RecordError when the database refuses."""
        try:
            METADATA.create_all(self.engine)
            with contextlib.suppress(IntegrityError), self.engine.begin() as connection:
                connection.execute(insert(HEAD).values(only=1))
        except SQLAlchemyError as error:
            raise RecordError(f"the journal's tables cannot be made: {_short(error)}") from error

    @contextlib.contextmanager
    def transaction(self) -> Iterator["TableEnd"]:
        """The end of the table; writing the one row of the head first makes every other writer wait."""
        try:
            with self.engine.begin() as connection:
                if connection.execute(update(HEAD).where(_ONLY).values(only=1)).rowcount != 1:
                    raise RecordError("the journal's head row is gone: the journal was damaged; begin a new one")
                yield TableEnd(connection)
        except SQLAlchemyError as error:
            raise RecordError(f"the journal's table cannot be written: {_short(error)}") from error

    def lines(self) -> Iterator[bytes]:
        """Every line; EvidenceError when the table cannot be read."""
        try:
            with self.engine.connect() as connection:
                for (line,) in connection.execute(select(LINES.c.line).order_by(LINES.c.record)):
                    yield line.encode()
        except SQLAlchemyError as error:
            raise EvidenceError(f"the journal's table cannot be read: {_short(error)}") from error

    def head(self) -> bytes | None:
        """The head, None when there is none; EvidenceError when it cannot be read."""
        try:
            with self.engine.connect() as connection:
                return TableEnd(connection).head()
        except SQLAlchemyError as error:
            raise EvidenceError(f"the journal's head cannot be read: {_short(error)}") from error


@dataclass(frozen=True)
class TableEnd:
    """The end of a journal's table, within one transaction."""

    connection: Connection

    def backwards(self) -> Iterator[bytes]:
        """The lines, the last one first, each asked for by itself."""
        record = self.connection.execute(select(func.max(LINES.c.record))).scalar()
        while record is not None:
            line = self._text(select(LINES.c.line).where(LINES.c.record == record))
            if line is None:
                return
            yield line
            record -= 1

    def head(self) -> bytes | None:
        """The head, None when there is none."""
        return self._text(select(HEAD.c.line).where(_ONLY))

    def set_aside(self) -> Mapping[str, Any] | None:
        """None: a transaction leaves no half line to move."""
        return None

    def append(self, line: bytes) -> None:
        """Keep a line and its copy, the head, when the transaction ends."""
        text = line.decode()
        self.connection.execute(insert(LINES).values(record=record_of(line).index, line=text))
        self.connection.execute(update(HEAD).where(_ONLY).values(line=text))

    def _text(self, query: Any) -> bytes | None:
        found = self.connection.execute(query).scalar()
        return None if found is None else str(found).encode()


def _short(error: SQLAlchemyError) -> str:
    """What the database said, without the statement that it said it of."""
    return str(getattr(error, "orig", None) or error).strip().partition("\n")[0]
