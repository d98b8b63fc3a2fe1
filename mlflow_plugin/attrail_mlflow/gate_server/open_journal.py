"""The gate's journal, in the registry's own database: a decision, its record and its effect are one transaction."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from attrail_explainers.errors import RecordError
from attrail_mlflow.journal.hash_chain import Event, record_of
from attrail_mlflow.journal.table import HEAD, LINES, TableEnd


@dataclass(frozen=True)
class OpenTable:
    """The store of a journal table, over a transaction that somebody else commits (``journal.Store``)."""

    connection: Connection

    def lock(self) -> None:
        """Make every other writer wait until the transaction ends: write the one row of the head.

        It must be the transaction's first statement, so that what is read afterwards is the newest. Raises RecordError
        when the row is gone.
        """
        if self.connection.execute(update(HEAD).where(HEAD.c.only == 1).values(only=1)).rowcount != 1:
            raise RecordError("the journal's head row is gone: somebody changed the gate's tables; restore them")

    @contextlib.contextmanager
    def transaction(self) -> Iterator[TableEnd]:
        """The end of the table, within the transaction that is open; RecordError when it cannot be written."""
        try:
            yield TableEnd(self.connection)
        except OperationalError:
            raise  # the database is busy or gone, which says nothing about the journal
        except SQLAlchemyError as error:
            raise RecordError(f"the journal's table cannot be written: {getattr(error, 'orig', error)}") from error

    def lines(self) -> Iterator[bytes]:
        """Every line, as the transaction sees them."""
        yield from reversed(list(TableEnd(self.connection).backwards()))

    def head(self) -> bytes | None:
        """The head, None when there is none."""
        return TableEnd(self.connection).head()

    def last_policy(self) -> str | None:
        """The digest of the gate policy that was written down last, None when none ever was."""
        noted = LINES.c.line.like(f'%"event":"{Event.POLICY}"%')  # canonical JSON has no other spelling of it
        line = self.connection.execute(select(LINES.c.line).where(noted).order_by(LINES.c.record.desc())).scalar()
        return None if line is None else str(record_of(str(line).encode()).body.get("policy_digest"))
