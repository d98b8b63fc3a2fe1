"""The gate's ledger: which version took which role on which evidence, and which statements were seen in which order.

Tables in the registry's own database, written in the transaction that moves the alias, so a crash leaves both or
neither. The journal tells the same story for auditors; the ledger answers the gate's questions by index.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, Column, Connection, Engine, Integer, MetaData, String, Table, Text, insert, select
from sqlalchemy.exc import SQLAlchemyError

from attrail_explainers.errors import RecordError
from attrail_mlflow.gate.evidence_tags import Objection, speaks_against
from attrail_mlflow.signing.fields import moment, plain
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate
from attrail_mlflow.statements.verification import SKEW

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
SEEN = Table(
    "attrail_seen_statements",
    METADATA,
    Column("id", Integer, primary_key=True),  # the order in which the gate saw them
    Column("workspace", WORKSPACE, nullable=False),
    Column("name", NAME, nullable=False, index=True),
    Column("version", String(20), nullable=False),
    Column("source", Text, nullable=False),
    Column("evidence", String(71), nullable=False),
    Column("issued", String(20), nullable=False),
    Column("seen", String(20), nullable=False),
    Column("against", Boolean, nullable=False),
)
STATEMENTS = Table(  # where gates before SEEN kept the newest only; it is read, and not written any more
    "attrail_statements",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("workspace", WORKSPACE, nullable=False),
    Column("name", NAME, nullable=False, index=True),
    Column("version", String(20), nullable=False),
    Column("source", Text, nullable=False),
    Column("issued", String(20), nullable=False),
)
SERVERS = Table(
    "attrail_servers",
    METADATA,
    Column("id", Integer, primary_key=True),  # the last row's policy is in force
    Column("server", String(64), nullable=False, index=True),
    Column("policy_digest", String(71), nullable=False),
)


def create_ledger(engine: Engine) -> None:
    """Make the tables if they are not there; RecordError when the database refuses."""
    try:
        METADATA.create_all(engine)
    except SQLAlchemyError as error:
        raise RecordError(f"the gate's tables cannot be made: {getattr(error, 'orig', error)}") from error


@dataclass(frozen=True)
class PromotionRow:
    """What the ledger keeps of one promotion."""

    model: ModelIdentity
    role: str
    evidence: str
    waiver_id: str | None
    journal_record: int


@dataclass(frozen=True)
class PromotionTable:
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
        """When the newest statement that was seen for a version was issued, by who signed it; None when none was.

        One that was signed in the future then has its place in the order, but makes no other one old.
        """
        former = [moment(row.issued, "issued") for row in self._about(STATEMENTS, model)]
        times = [_times(row) for row in self._about(SEEN, model) if not row.against]
        return max([*former, *(issued for issued, seen in times if issued <= seen + SKEW)], default=None)

    def objections(self, model: ModelIdentity, evidence: str | None) -> tuple[Objection, ...]:
        """The statements against a version that were seen, as they are to the one with this digest."""
        rows = self._about(SEEN, model)
        place = next((row.id for row in rows if row.evidence == evidence), None)
        return tuple(
            Objection(*_times(row), place is not None and row.id > place)
            for row in rows
            if row.against and row.evidence != evidence
        )

    def knows_statement(self, model: ModelIdentity, evidence: str) -> bool:
        """Whether a statement about a version, by its digest, was seen before."""
        return any(row.evidence == evidence for row in self._about(SEEN, model))

    def promote(self, promotion: PromotionRow) -> None:
        """Write a promotion down."""
        model = promotion.model
        facts = {"role": promotion.role, "evidence": promotion.evidence, "waiver_id": promotion.waiver_id}
        digests = {"artifact_digest": model.artifact_digest, "weights_digest": model.weights_digest}
        record = {"journal_record": promotion.journal_record}
        self.connection.execute(insert(PROMOTIONS).values(**self._key(model), **facts, **digests, **record))

    def see(self, model: ModelIdentity, evidence: str, statement: Predicate, now: datetime) -> None:
        """Remember a statement about a version, and that it came after those before it; once."""
        if self.knows_statement(model, evidence):
            return
        times = {"issued": plain(statement.issued), "seen": plain(now.replace(microsecond=0))}
        facts = {"evidence": evidence, "against": speaks_against(statement), **times}
        self.connection.execute(insert(SEEN).values(**self._key(model), **facts))

    def _about(self, table: Table, model: ModelIdentity) -> list[Any]:
        """The rows of a table about a version, in their order."""
        query = select(table).where(*self._of(table, model.name), table.c.version == model.version)
        return [row for row in self.connection.execute(query.order_by(table.c.id)) if row.source == model.source]

    def _key(self, model: ModelIdentity) -> dict[str, Any]:
        return {
            "workspace": self.workspace,
            "name": model.name,
            "version": model.version,
            "source": model.source,
        }

    def _of(self, table: Table, name: str) -> tuple[Any, ...]:
        return table.c.workspace == self.workspace, table.c.name == name


def _times(row: Any) -> tuple[datetime, datetime]:
    """When a statement was issued, and when it was seen."""
    return moment(row.issued, "issued"), moment(row.seen, "seen")


def policy_in_force(connection: Connection) -> str | None:
    """The digest of the policy under which the server that was started last decides; None before the first."""
    found = connection.execute(select(SERVERS.c.policy_digest).order_by(SERVERS.c.id.desc()).limit(1)).scalar()
    return None if found is None else str(found)


def knows_server(connection: Connection, server: str) -> bool:
    """Whether a start of a server put a policy in force before."""
    return connection.execute(select(SERVERS.c.id).where(SERVERS.c.server == server).limit(1)).first() is not None


def put_in_force(connection: Connection, server: str, policy_digest: str) -> None:
    """Let all servers decide under a policy, and those that have another one no longer."""
    connection.execute(insert(SERVERS).values(server=server, policy_digest=policy_digest))


def _identity(row: Any) -> ModelIdentity:
    return ModelIdentity(*(row[key] for key in ("name", "version", "source", "artifact_digest", "weights_digest")))
