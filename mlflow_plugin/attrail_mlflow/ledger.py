"""The gate's ledger: which version took which role on which evidence, and the newest statement seen about each version.

Two tables in the registry's own database, written in the transaction that moves the alias, so a crash leaves both or
neither. The journal tells the same story for auditors; the ledger answers the gate's questions by index.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, Text, delete, insert, select
from sqlalchemy.exc import SQLAlchemyError

from attrail_explainers.errors import RecordError
from attrail_mlflow.fields import moment, plain
from attrail_mlflow.predicate import ModelIdentity

METADATA = MetaData()
WORKSPACE, NAME, ROLE = String(63), String(256), String(256)  # as long as MLflow's own
PROMOTIONS = Table(
    "attrail_promotions",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("workspace", WORKSPACE, nullable=False, index=True),
    Column("name", NAME, nullable=False, index=True),
    Column("role", ROLE, nullable=False),
    Column("version", String(20), nullable=False),
    Column("source", Text, nullable=False),
    Column("artifact_digest", String(71), nullable=False),
    Column("weights_digest", String(71)),
    Column("evidence", String(71), nullable=False),
    Column("waiver_id", Text),
    Column("journal_record", Integer, nullable=False),
)
STATEMENTS = Table(
    "attrail_statements",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("workspace", WORKSPACE, nullable=False),
    Column("name", NAME, nullable=False, index=True),
    Column("version", String(20), nullable=False),
    Column("source", Text, nullable=False),
    Column("issued", String(20), nullable=False),
)


def create_ledger(engine: Engine) -> None:
    """Make the tables if they are not there; RecordError when the database refuses."""
    try:
        METADATA.create_all(engine)
    except SQLAlchemyError as error:
        raise RecordError(f"the gate's tables cannot be made: {error}") from error


@dataclass(frozen=True)
class Promotion:
    """What the ledger keeps of one promotion."""

    model: ModelIdentity
    role: str
    evidence: str
    waiver_id: str | None
    journal_record: int


@dataclass(frozen=True)
class Ledger:
    """The ledger of one workspace, over an open connection."""

    connection: Connection
    workspace: str

    def last(self, name: str, role: str) -> ModelIdentity | None:
        """What took a role last, with its files as they were approved; None when nothing ever did."""
        query = select(PROMOTIONS).where(*self._of(PROMOTIONS, name), PROMOTIONS.c.role == role)
        row = self.connection.execute(query.order_by(PROMOTIONS.c.id.desc()).limit(1)).mappings().first()
        return None if row is None else _identity(row)

    def taken(self, model: ModelIdentity, role: str) -> ModelIdentity | None:
        """A version with the files it took a role on when it last did; None when it never did."""
        query = select(PROMOTIONS).where(*self._of(PROMOTIONS, model.name), PROMOTIONS.c.role == role)
        rows = self.connection.execute(
            query.where(PROMOTIONS.c.version == model.version).order_by(PROMOTIONS.c.id.desc())
        ).mappings()
        return next((_identity(row) for row in rows if row["source"] == model.source), None)

    def knows(self, name: str) -> bool:
        """Whether any version under this name ever took a role."""
        query = select(PROMOTIONS.c.id).where(*self._of(PROMOTIONS, name)).limit(1)
        return self.connection.execute(query).first() is not None

    def used(self, name: str, role: str) -> Collection[str]:
        """Digests of the statements that gave a role to a version of a model, and the ids of all waivers ever used."""
        used = select(PROMOTIONS.c.evidence).where(*self._of(PROMOTIONS, name), PROMOTIONS.c.role == role)
        waivers = select(PROMOTIONS.c.waiver_id).where(PROMOTIONS.c.waiver_id.is_not(None))
        return frozenset(str(value) for value in self.connection.execute(used.union(waivers)).scalars())

    def newest(self, model: ModelIdentity) -> datetime | None:
        """When the newest statement about a version that was ever seen was issued; None when none was."""
        table = STATEMENTS
        query = select(table.c.issued, table.c.source).where(*self._of(table, model.name))
        rows = self.connection.execute(query.where(table.c.version == model.version))
        times = [moment(row.issued, "issued") for row in rows if row.source == model.source]
        return max(times, default=None)

    def promote(self, promotion: Promotion) -> None:
        """Write a promotion down."""
        model = promotion.model
        facts = {"role": promotion.role, "evidence": promotion.evidence, "waiver_id": promotion.waiver_id}
        digests = {"artifact_digest": model.artifact_digest, "weights_digest": model.weights_digest}
        record = {"journal_record": promotion.journal_record}
        self.connection.execute(insert(PROMOTIONS).values(**self._key(model), **facts, **digests, **record))

    def see(self, model: ModelIdentity, issued: datetime) -> None:
        """Remember a statement about a version, unless a newer one was seen."""
        newest = self.newest(model)
        if newest is not None and newest >= issued:
            return
        key = self._key(model)
        same = (STATEMENTS.c[name] == key[name] for name in ("workspace", "name", "version"))
        self.connection.execute(delete(STATEMENTS).where(*same))
        self.connection.execute(insert(STATEMENTS).values(**key, issued=plain(issued)))

    def _key(self, model: ModelIdentity) -> dict[str, Any]:
        return {
            "workspace": self.workspace,
            "name": model.name,
            "version": model.version,
            "source": model.source,
        }

    def _of(self, table: Table, name: str) -> tuple[Any, ...]:
        return table.c.workspace == self.workspace, table.c.name == name


def _identity(row: Any) -> ModelIdentity:
    return ModelIdentity(*(row[key] for key in ("name", "version", "source", "artifact_digest", "weights_digest")))
