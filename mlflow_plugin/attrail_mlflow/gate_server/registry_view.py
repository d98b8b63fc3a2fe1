"""What the gate reads in MLflow's registry: who holds a protected role, and on which files."""

from dataclasses import dataclass, field
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion, SqlRegisteredModelAlias
from sqlalchemy import Connection, select, update

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.gate.policy import STAGE, GatePolicy
from attrail_mlflow.gate.versions import UNREADABLE, identity
from attrail_mlflow.registry.errors import found_or_none
from attrail_mlflow.registry.model_files import Ahead, ModelFiles
from attrail_mlflow.statements.predicate import ModelIdentity


@dataclass(frozen=True)
class RegistryView:
    """A registry store, read under a policy."""

    store: AbstractStore
    policy: GatePolicy
    files: ModelFiles = field(default_factory=ModelFiles)

    def version(self, name: str, version: Any) -> ModelVersion:
        """A version as it is registered; MLflow's own error when there is none."""
        found: ModelVersion = self.store.get_model_version(name, version)
        return found

    def names(self, connection: Connection) -> list[str]:
        """The models of which a version holds a protected role: all of the database's, whatever the workspace."""
        aliases = connection.execute(select(SqlRegisteredModelAlias.name, SqlRegisteredModelAlias.alias).distinct())
        named = {str(name) for name, alias in aliases if self.policy.role_of_alias(alias)}
        staged = select(SqlModelVersion.name).where(SqlModelVersion.current_stage.in_(self.policy.stages)).distinct()
        return sorted(named | {str(name) for name in connection.execute(staged).scalars()})

    def holder(self, name: str, role: str) -> ModelVersion | None:
        """What is served now: the version with the alias, or the newest in the stage, as MLflow's URIs mean it."""
        if not role.startswith(STAGE):
            return self.by_alias(name, role)
        found = self.store.get_latest_versions(name, [role.removeprefix(STAGE)])
        return max(found, key=lambda each: int(each.version), default=None)

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """The version that an alias names, None when there is none."""
        found: ModelVersion | None = found_or_none(self.store.get_model_version_by_alias, name, alias)
        return found

    def held(self, name: str) -> list[tuple[ModelVersion, str]]:
        """The versions of a model that hold a protected role, with each of their roles."""
        aliases = dict(self.store.get_registered_model(name).aliases)
        numbers = {str(number) for alias, number in aliases.items() if self.policy.role_of_alias(alias)}
        staged = self.store.get_latest_versions(name, list(self.policy.stages)) if self.policy.stages else []
        numbers |= {str(each.version) for each in staged}
        versions = [self.version(name, number) for number in sorted(numbers)]
        return [(version, role) for version in versions for role in self.roles(version)]

    def roles(self, version: ModelVersion) -> list[str]:
        """The protected roles that a version holds."""
        found = [self.policy.role_of_alias(alias) for alias in version.aliases]
        return sorted({role for role in (*found, self.policy.role_of_stage(version.current_stage or "")) if role})

    def claim(self, name: Any, version: Any, connection: Connection, workspace: str) -> bool:
        """Whether a version is in no protected stage, nor will be before the transaction ends: its row is written.

        False also for what is no name or number: MLflow is to say so.
        """
        if not isinstance(name, str) or not str(version).isdecimal():
            return False
        table = SqlModelVersion
        same = (table.workspace == workspace, table.name == name, table.version == int(version))
        free = table.current_stage.not_in(self.policy.stages)
        written = update(table).where(*same, free).values(current_stage=table.current_stage)
        return connection.execute(written).rowcount == 1

    def heir(self, version: ModelVersion, connection: Connection, workspace: str) -> int | None:
        """The version that would be served in a stage once its newest left it; None when that changes nothing."""
        table = SqlModelVersion
        same = (
            table.workspace == workspace,
            table.name == version.name,
            table.current_stage == version.current_stage,
        )
        others = select(table.version).where(*same, table.version != int(version.version))
        newest = max(connection.execute(others).scalars(), default=None)
        return newest if newest is not None and newest < int(version.version) else None

    def files_digest(self, version: ModelVersion, ahead: Ahead | None) -> str:
        """The digest of a version's files as they are now; raises what ``ModelFiles.digest`` raises."""
        uri = self.store.get_model_version_download_uri(version.name, version.version)
        return self.files.digest(uri, ahead)

    def with_files(self, version: ModelVersion, ahead: Ahead | None) -> ModelIdentity:
        """A version with its files as they are, or as unreadable."""
        try:
            return identity(version, self.files_digest(version, ahead))
        except EvidenceError:
            return identity(version, UNREADABLE)
