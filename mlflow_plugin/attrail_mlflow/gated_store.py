"""MLflow's registry store with the gate in it: what would give a version a protected role is decided here.

The server calls these methods for every route, client, application and user, administrators included. A decision, its
record in the journal and the change itself are one transaction, begun by taking the one lock that all decisions take:
two promotions that race are decided one after the other, and a server that is killed changed nothing or everything.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from sqlalchemy.orm import Session

from attrail_explainers.errors import AttrailError, EvidenceError
from attrail_mlflow.actor import request_actor
from attrail_mlflow.casework import Casework
from attrail_mlflow.chain import record_of
from attrail_mlflow.evidence_tags import is_evidence
from attrail_mlflow.gate import Decision
from attrail_mlflow.gate_desk import Desk
from attrail_mlflow.gate_journal import OpenTable
from attrail_mlflow.gate_policy import GatePolicy
from attrail_mlflow.journal_table import JournalTable
from attrail_mlflow.ledger import create_ledger
from attrail_mlflow.model_files import Ahead, SlowFiles
from attrail_mlflow.reason import Reason
from attrail_mlflow.registry_view import RegistryView

T = TypeVar("T")
Judge = Callable[[Desk], Decision | None]
_OPEN: ContextVar[Session | None] = ContextVar("attrail_gate_session", default=None)


class GatedStore(SqlAlchemyStore):
    """``SqlAlchemyStore`` under a policy. Raises RecordError when the gate's tables cannot be made."""

    def __init__(self, db_uri: str, read_db_uri: str | None, policy: GatePolicy) -> None:
        super().__init__(db_uri, read_db_uri=read_db_uri)  # type: ignore[no-untyped-call]
        self.policy = policy
        self._managed_session, self.ManagedSessionMaker = self.ManagedSessionMaker, self._session
        self._view = RegistryView(self, policy)
        self._casework = Casework(self._view, policy)
        JournalTable(self.engine).create()
        create_ledger(self.engine)
        self._begin()

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> Any:
        write = partial(super().set_registered_model_alias, name, alias, version)
        role = self.policy.role_of_alias(alias)
        return self._promote(name, version, role, alias, write) if role else write()

    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        transition = super().transition_model_version_stage
        write = partial(transition, name, version, stage, archive_existing_versions)
        role = self.policy.role_of_stage(stage)
        if role:
            return self._promote(name, version, role, role, write)
        return self._guarded(partial(self._casework.stage_removal, name, version, stage), write)

    def delete_registered_model_alias(self, name: str, alias: str) -> Any:
        write = partial(super().delete_registered_model_alias, name, alias)
        role = self.policy.role_of_alias(alias)
        return self._guarded(partial(self._casework.alias_removal, name, alias, role), write) if role else write()

    def delete_model_version(self, name: str, version: Any) -> Any:
        write = partial(super().delete_model_version, name, version)
        return self._guarded(partial(self._casework.version_removal, name, version), write)

    def delete_registered_model(self, name: str) -> Any:
        write = partial(super().delete_registered_model, name)
        return self._guarded(partial(self._casework.model_removal, name), write)

    def rename_registered_model(self, name: str, new_name: str) -> Any:
        write = partial(super().rename_registered_model, name, new_name)
        return self._guarded(partial(self._casework.renaming, name, new_name), write)

    def create_model_version(  # noqa: PLR0913, PLR0917 - MLflow's
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> Any:
        """As MLflow's, without attrail's tags: a new version, or a copy of an old one, has no evidence of its own."""
        kept = [tag for tag in tags or [] if not is_evidence(tag.key)]
        return super().create_model_version(
            name, source, run_id, kept, run_link, description, local_model_path, model_id
        )

    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> None:
        self._tag(name, version, tag.key, tag.value, partial(super().set_model_version_tag, name, version, tag))

    def delete_model_version_tag(self, name: str, version: Any, key: str) -> None:
        self._tag(name, version, key, None, partial(super().delete_model_version_tag, name, version, key))

    def journal_end(self) -> dict[str, Any] | None:
        """The index and the hash of the journal's last record."""
        with self._desk(write=False, workspace="") as desk:
            head = desk.table.head()
        return None if head is None else {"record": record_of(head).index, "hash": record_of(head).hash}

    def _begin(self) -> None:
        """Note the policy, and who holds a role already; with workspaces, which only requests know, on first sight."""
        with self._desk(write=True, workspace="") as desk:
            desk.note_policy()
        if not self.supports_workspaces:
            with self._desk(write=True) as desk:
                self._casework.adopt_all(desk)

    def _promote(self, name: str, version: Any, role: str, asked: str, write: Callable[[], T]) -> T:
        judge = partial(self._casework.promotion, name, version, role, asked)
        ahead: dict[str, str | EvidenceError] = {}
        while True:
            try:
                return self._guarded(judge, write, ahead)
            except SlowFiles as slow:
                ahead[slow.uri] = self._view.files.read_ahead(slow.uri)

    def _tag(self, name: str, version: Any, key: str, value: str | None, write: Callable[[], None]) -> None:
        if not is_evidence(key):
            return write()
        return self._guarded(partial(self._casework.tagging, name, version, key, value), write)

    def _guarded(self, judge: Judge, write: Callable[[], T], ahead: Ahead | None = None) -> T:
        """Judge, note the decision and write, all or nothing; raise a refusal once it is noted."""
        with self._desk(write=True, ahead=ahead) as desk:
            decision = judge(desk)
            if decision is not None:
                desk.note(decision)
            if decision is None or decision.allowed:
                return write()
        raise refusal(decision)

    @contextlib.contextmanager
    def _desk(self, *, write: bool, workspace: str | None = None, ahead: Ahead | None = None) -> Iterator[Desk]:
        """A desk over one session, in which every method of MLflow's store that is called meanwhile works."""
        place = self._get_active_workspace() if workspace is None else workspace
        with self._managed_session(read_only=not write) as session:
            connection, actor = session.connection(), request_actor(self.policy.actor_header)
            token = _OPEN.set(session)
            try:
                if write:
                    OpenTable(connection).lock()
                yield Desk(connection, self.policy, place, actor, datetime.now(UTC), ahead)
                session.flush()
            except AttrailError as error:
                raise _denied(f"nothing can be promoted: {error}", {"reasons": [Reason.NO_JOURNAL]}) from error
            finally:
                _OPEN.reset(token)

    @contextlib.contextmanager
    def _session(self, read_only: bool = True) -> Iterator[Session]:
        """MLflow's ``ManagedSessionMaker``; while a desk is open, its session, which the desk commits."""
        session = _OPEN.get()
        if session is None:
            with self._managed_session(read_only=read_only) as own:
                yield own
        else:
            yield session
            session.flush()


class GatedWorkspaceStore(GatedStore, WorkspaceAwareSqlAlchemyStore):
    """The same for servers with workspaces."""


def refusal(decision: Decision) -> MlflowException:
    """A refusal as MLflow's server sends it: status 403, one sentence, and the decision as JSON under ``attrail``."""
    return _denied(f"{decision.sentence} [{', '.join(decision.reasons)}]", decision.document())


def _denied(sentence: str, facts: dict[str, Any]) -> MlflowException:
    return MlflowException(f"attrail gate: {sentence}", error_code=PERMISSION_DENIED, attrail=facts)
