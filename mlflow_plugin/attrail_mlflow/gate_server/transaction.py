"""The gate's desk: an open transaction of the registry's database in which decisions are written down."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection

from attrail_explainers.errors import GateRefusal
from attrail_mlflow.gate.decision import Decision
from attrail_mlflow.gate.policy import GatePolicy
from attrail_mlflow.gate_server.open_journal import OpenTable
from attrail_mlflow.gate_server.promotions import (
    PromotionRow,
    PromotionTable,
    knows_server,
    policy_in_force,
    put_in_force,
)
from attrail_mlflow.journal.hash_chain import Event, JournalRecord
from attrail_mlflow.journal.journal import Journal
from attrail_mlflow.registry.model_files import Ahead
from attrail_mlflow.signing.refusal import Reason


@dataclass(frozen=True)
class GateTransaction:
    """The ledger and the journal of one workspace, over one connection; ``actor`` is who asks, ``now`` is in UTC.

    Others wait for it: with ``ahead``, files that take long to read must have been read before it was opened.
    """

    connection: Connection
    policy: GatePolicy
    workspace: str
    actor: str
    now: datetime
    ahead: Ahead | None = None

    @cached_property
    def ledger(self) -> PromotionTable:
        """The promotions of the workspace."""
        return PromotionTable(self.connection, self.workspace)

    @cached_property
    def table(self) -> OpenTable:
        """The journal's table, within this transaction."""
        return OpenTable(self.connection)

    def note(self, decision: Decision) -> None:
        """Write a decision into the journal, and into the ledger if it lets a version take a role.

        A waiver that is used up gets a record of its own, with its whole text. Raises RecordError when the journal
        cannot be written on: then nothing may be allowed.
        """
        if decision.allowed and decision.waiver_id and decision.statement is not None:
            self._append(Event.WAIVER, {"waiver": decision.statement.document()})
        event = Event.GATE_ALLOWED if decision.allowed else Event.GATE_REFUSED
        record = self._append(event, decision.document() | {"workspace": self.workspace})
        if decision.allowed and decision.evidence is not None:
            evidence = (decision.evidence, decision.waiver_id)
            self.ledger.promote(PromotionRow(decision.model, decision.role, *evidence, record.index))

    def note_policy(self, server: str | None) -> None:
        """Put this policy in force and write it into the journal, unless ``server`` put one in force before.

        ``server`` is the start of a server that MLflow's workers share: it has one policy, and what a worker that is
        started anew reads in the file then changes nothing. None is a process by itself, which is its own start.
        """
        in_force = policy_in_force(self.connection)
        if in_force == self.policy.digest if server is None else knows_server(self.connection, server):
            return
        if self.table.last_policy() != self.policy.digest:
            self._append(Event.POLICY, {"policy_digest": self.policy.digest, "policy": self.policy.document()})
        put_in_force(self.connection, server or "", self.policy.digest)

    def _append(self, event: Event, body: dict[str, Any]) -> JournalRecord:
        journal = Journal(self.table, self.policy.journal_signer, self.policy.trusted)
        return journal.append(event, self.actor, body, self.now)


def require_in_force(connection: Connection, policy: GatePolicy) -> None:
    """Raise GateRefusal unless a policy is the one in force: two policies must not decide."""
    in_force = policy_in_force(connection)
    if in_force != policy.digest:
        raise GateRefusal(
            f"this process has the policy {policy.digest}, but {in_force or 'none'} is in force since a server was "
            "started: restart the whole server to put its policy file in force",
            Reason.OTHER_POLICY,
        )
