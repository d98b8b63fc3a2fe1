"""MLflow's registry store with the gate in it: what would give a version a protected role is decided here.

The server calls these methods for every route, client, application and user, administrators included. MLflow tries each
change first and takes it back, so what MLflow itself refuses is refused in its words. A decision, its record in the
journal and the change itself are one transaction, begun by taking the one lock that all decisions take: two promotions
that race are decided one after the other, and a server that is killed changed nothing or everything.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from mlflow.environment_variables import _MLFLOW_SERVER_BOOT_ID
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, TEMPORARILY_UNAVAILABLE
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from attrail_explainers.errors import AttrailError, EvidenceError
from attrail_mlflow.gate.decision import Decision
from attrail_mlflow.gate.evidence_tags import is_evidence
from attrail_mlflow.gate.policy import GatePolicy
from attrail_mlflow.gate_server.actor import request_actor
from attrail_mlflow.gate_server.open_journal import OpenTable
from attrail_mlflow.gate_server.promotions import create_ledger, policy_in_force
from attrail_mlflow.gate_server.registry_view import RegistryView
from attrail_mlflow.gate_server.requests import RequestJudge
from attrail_mlflow.gate_server.transaction import GateTransaction, require_in_force
from attrail_mlflow.journal.hash_chain import record_of
from attrail_mlflow.journal.table import JournalTable
from attrail_mlflow.registry.model_files import Ahead, SlowFiles
from attrail_mlflow.signing.refusal import Reason

T = TypeVar("T")
Judge = Callable[[GateTransaction], Decision | None]
Around = Callable[[Session], AbstractContextManager[None]]  # what else is done in a transaction of MLflow's
_OPEN: ContextVar[Session | None] = ContextVar("attrail_gate_session", default=None)
_AROUND: ContextVar[Around | None] = ContextVar("attrail_gate_around", default=None)


class _HeldStage(MlflowException):
    """A version that may be in a protected stage. MLflow's kind of exception, which its sessions let pass unchanged."""


class GatedStore(SqlAlchemyStore):
    """``SqlAlchemyStore`` under a policy. Raises RecordError when the gate's tables cannot be made."""

    def __init__(self, db_uri: str, read_db_uri: str | None, policy: GatePolicy) -> None:
        super().__init__(db_uri, read_db_uri=read_db_uri)  # type: ignore[no-untyped-call]
        self.policy = policy
        self._managed_session, self.ManagedSessionMaker = self.ManagedSessionMaker, self._session
        self._view = RegistryView(self, policy)
        self._casework = RequestJudge(self._view, policy)
        JournalTable(self.engine).create()
        create_ledger(self.engine)
        self._begin()

    def set_registered_model_alias(self, name: str, alias: str, version: Any) -> Any:
        write = partial(super().set_registered_model_alias, name, alias, version)
        role = self.policy.role_of_alias(alias)
        if role is None:
            return self._free(write)
        return self._guarded(partial(self._casework.promotion, name, version, role, alias), write)

    def transition_model_version_stage(
        self, name: str, version: Any, stage: str, archive_existing_versions: bool
    ) -> Any:
        transition = super().transition_model_version_stage
        write = partial(transition, name, version, stage, archive_existing_versions)
        role = self.policy.role_of_stage(stage)
        if role:
            return self._guarded(partial(self._casework.promotion, name, version, role, role), write)
        try:
            return self._free(write, partial(self._claim, name, version))
        except _HeldStage:
            return self._guarded(partial(self._casework.stage_removal, name, version, stage), write)

    def delete_registered_model_alias(self, name: str, alias: str) -> Any:
        write = partial(super().delete_registered_model_alias, name, alias)
        role = self.policy.role_of_alias(alias)
        if role is None:
            return self._free(write)
        return self._guarded(partial(self._casework.alias_removal, name, alias, role), write)

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
        """Make a version as MLflow does, without attrail's tags: a new one, or a copy, has no evidence of its own."""
        kept = [tag for tag in tags or [] if not is_evidence(tag.key)]
        return super().create_model_version(
            name, source, run_id, kept, run_link, description, local_model_path, model_id
        )

    def set_model_version_tag(self, name: str, version: Any, tag: Any) -> None:
        write = partial(super().set_model_version_tag, name, version, tag)
        self._tag(name, version, getattr(tag, "key", None), getattr(tag, "value", None), write)

    def delete_model_version_tag(self, name: str, version: Any, key: str) -> None:
        self._tag(name, version, key, None, partial(super().delete_model_version_tag, name, version, key))

    def journal_end(self) -> dict[str, Any] | None:
        """The index and the hash of the journal's last record."""
        with self._desk(write=False, workspace="") as desk:
            head = desk.table.head()
        return None if head is None else {"record": record_of(head).index, "hash": record_of(head).hash}

    def policy_in_force(self) -> str | None:
        """The digest of the policy under which all servers on this database decide."""
        with self._desk(write=False, workspace="") as desk:
            return policy_in_force(desk.connection)

    def _begin(self) -> None:
        """Put the policy in force if this is a new start of a server, and note who holds a role already.

        With workspaces, which only requests know, that is noted on first sight. Files that take long are read while
        nobody waits for the lock.
        """
        with self._desk(write=True, workspace="") as desk:
            desk.note_policy(_MLFLOW_SERVER_BOOT_ID.get())
            mine = policy_in_force(desk.connection) == self.policy.digest
        ahead: dict[str, str | EvidenceError] | None = {} if mine and not self.supports_workspaces else None
        while ahead is not None:
            with self._desk(write=True, ahead=ahead) as desk:
                slow = self._casework.adopt_all(desk)
            ahead = ahead | {uri: self._view.files.read_ahead(uri) for uri in slow} if slow else None

    def _tag(self, name: str, version: Any, key: Any, value: Any, write: Callable[[], None]) -> None:
        if not is_evidence(key):
            return write()
        return self._guarded(partial(self._casework.tagging, name, version, key, value), write)

    def _free(self, write: Callable[[], T], claim: Callable[[Session], None] | None = None) -> T:
        """Let MLflow write what this policy does not protect, unless another one is in force, in one transaction."""

        @contextlib.contextmanager
        def around(session: Session) -> Iterator[None]:
            if claim is not None:
                claim(session)
            yield
            session.flush()  # from here on nobody else writes to what was written, in SQLite to anything
            with _denials():
                require_in_force(session.connection(), self.policy)

        return _with(_AROUND, around, write)

    def _claim(self, name: Any, version: Any, session: Session) -> None:
        """Keep a version from entering a protected stage until the transaction ends; _HeldStage if it may be in one."""
        if not self._view.claim(name, version, session.connection(), self._get_active_workspace()):
            raise _HeldStage(f"{name}/{version} may be in a protected stage")

    def _guarded(self, judge: Judge, write: Callable[[], T]) -> T:
        """Let MLflow try, judge, note the decision and write, all or nothing; raise a refusal once it is noted."""
        _with(_AROUND, _taken_back, write)
        ahead: dict[str, str | EvidenceError] = {}
        while True:
            try:
                return self._judged(judge, write, ahead)
            except SlowFiles as slow:
                ahead[slow.uri] = self._view.files.read_ahead(slow.uri)

    def _judged(self, judge: Judge, write: Callable[[], T], ahead: Ahead) -> T:
        with self._desk(write=True, ahead=ahead) as desk:
            require_in_force(desk.connection, self.policy)
            decision = judge(desk)
            if decision is not None:
                desk.note(decision)
            if decision is None or decision.allowed:
                return write()
        raise refusal(decision)

    @contextlib.contextmanager
    def _desk(
        self, *, write: bool, workspace: str | None = None, ahead: Ahead | None = None
    ) -> Iterator[GateTransaction]:
        """A desk over one session, in which every method of MLflow's store that is called meanwhile works."""
        place = self._get_active_workspace() if workspace is None else workspace
        with _one_sentence(), self._managed_session(read_only=not write) as session:
            connection, actor = session.connection(), request_actor(self.policy.actor_header)
            token = _OPEN.set(session)
            try:
                with _denials():
                    if write:
                        OpenTable(connection).lock()
                    yield GateTransaction(connection, self.policy, place, actor, datetime.now(UTC), ahead)
                    session.flush()
            finally:
                _OPEN.reset(token)

    @contextlib.contextmanager
    def _session(self, read_only: bool = True) -> Iterator[Session]:
        """MLflow's ``ManagedSessionMaker``; while a desk is open, its session, which the desk commits."""
        session, around = _OPEN.get(), _AROUND.get()
        if session is not None:
            yield session
            session.flush()
            return
        more = contextlib.nullcontext if around is None or read_only else around
        with _one_sentence(), self._managed_session(read_only=read_only) as own, more(own):
            yield own


class GatedWorkspaceStore(GatedStore, WorkspaceAwareSqlAlchemyStore):
    """A GatedStore for servers with workspaces."""


def refusal(decision: Decision) -> MlflowException:
    """A refusal as MLflow's server sends it: status 403, one sentence, and the decision as JSON under ``attrail``."""
    return _denied(f"{decision.sentence} [{', '.join(decision.reasons)}]", decision.document())


@contextlib.contextmanager
def _taken_back(session: Session) -> Iterator[None]:
    """A transaction that only shows whether MLflow would do what is asked."""
    yield
    session.flush()
    session.rollback()


@contextlib.contextmanager
def _denials() -> Iterator[None]:
    """What keeps the gate from deciding, as a refusal."""
    try:
        yield
    except AttrailError as error:
        reason = getattr(error, "reason", Reason.NO_JOURNAL)
        raise _denied(f"nothing can be promoted: {error} [{reason}]", {"reasons": [reason]}) from error


@contextlib.contextmanager
def _one_sentence() -> Iterator[None]:
    """What a database answers that is locked or away, without the SQL that MLflow shows beside it."""
    try:
        yield
    except MlflowException as error:
        cause = error.__cause__
        if not isinstance(cause, OperationalError):
            raise
        told = f"the registry's database cannot do it now ({cause.orig}): nothing was changed; try again in a moment"
        raise MlflowException(told, error_code=TEMPORARILY_UNAVAILABLE) from cause


def _with(variable: ContextVar[Any], value: Any, step: Callable[[], T]) -> T:
    token = variable.set(value)
    try:
        return step()
    finally:
        variable.reset(token)


def _denied(sentence: str, facts: dict[str, Any]) -> MlflowException:
    return MlflowException(f"attrail gate: {sentence}", error_code=PERMISSION_DENIED, attrail=facts)
