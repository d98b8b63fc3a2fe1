"""Promotion from the client's side: ask the gate's questions here first, then let the server decide.

What is asked here is early feedback: the client may lack what the server knows, such as who held the alias before and
which statements were used. The server's answer counts.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from attrail_explainers.errors import ConfigError, EvidenceError, GateRefusal
from attrail_mlflow.gate.decision import Case, Decision, decide, misspelt
from attrail_mlflow.gate.evidence_tags import is_retrain
from attrail_mlflow.gate.policy import GatePolicy
from attrail_mlflow.gate.versions import UNREADABLE, identity
from attrail_mlflow.registry.errors import ABSENT, found_or_none, registry_error
from attrail_mlflow.registry.fetching import fetch_model
from attrail_mlflow.registry.folder_digest import digest_folder
from attrail_mlflow.registry.registry import URI, URIS, Registry
from attrail_mlflow.registry.tags import STATEMENT_TAG, WAIVER_TAG
from attrail_mlflow.statements.baseline import Baseline
from attrail_mlflow.statements.predicate import ModelIdentity
from attrail_mlflow.statements.verdict import VerdictStatement
from attrail_mlflow.statements.verification import open_statement

REFUSED = "PERMISSION_DENIED"


@dataclass(frozen=True)
class Candidate:
    """A model version about to be promoted, as the registry shows it to a client."""

    registry: Registry
    version: ModelVersion

    @classmethod
    def find(cls, registry: Registry, model_uri: str) -> "Candidate":
        """The version that a ``models:/`` URI names; RegistryError when there is none."""
        if URI.fullmatch(model_uri) is None:
            raise ConfigError(f"{model_uri!r} is no model URI: write {URIS}")
        return cls(registry, registry.find("", model_uri))

    @property
    def label(self) -> str:
        """Name and version, ``digits/7``."""
        return f"{self.version.name}/{self.version.version}"

    def identity(self) -> ModelIdentity:
        """The version bound to its files as they are now; they are fetched to be hashed."""
        return identity(self.version, self._files_digest(self.version))

    def decision(self, alias: str, policy: GatePolicy) -> Decision:
        """What the gate would say, as far as a client can see: who held a role that nobody holds, the server knows.

        Raises ConfigError for an alias that the policy does not protect: it needs no evidence.
        """
        role = policy.role_of_alias(alias)
        if role is None:
            raise ConfigError(
                f"the policy does not protect the alias {alias!r}: it protects {', '.join(policy.aliases)}"
            )
        model = identity(self.version)
        if alias != role:
            return misspelt(model, alias, role)
        with self.registry.asking(f"who is {role} cannot be looked up"):
            holder = found_or_none(self.registry.client.get_model_version_by_alias, self.version.name, role)
        statement = self.version.tags.get(STATEMENT_TAG, "").encode()
        case = Case(
            version=model,
            role=role,
            hash_files=lambda: self._files_digest(self.version),
            statement=statement,
            waiver=self.version.tags.get(WAIVER_TAG, "").encode(),
            champion=_compared_with(statement, policy) if holder is None else self._as_served(holder),
            holds=holder is not None and holder.version == self.version.version,
            retrain=is_retrain(self.version.tags),
        )
        found = decide(case, policy, datetime.now(UTC))
        return found if holder is not None else _as_the_server_knows(found)

    def promote(self, alias: str) -> None:
        """Ask the server to set the alias.

        Raises GateRefusal with the server's sentence and reasons, RegistryError when it cannot be asked.
        """
        with self.registry.asking(f"{self.label} could not be promoted"), _refusals():
            self.registry.client.set_registered_model_alias(self.version.name, alias, self.version.version)

    def carry(self, tag: str, envelope: bytes) -> None:
        """Let the version carry a signed statement; RegistryError when the server refuses."""
        with self.registry.asking(f"the tag {tag} of {self.label} could not be set"):
            self.registry.client.set_model_version_tag(self.version.name, self.version.version, tag, envelope.decode())

    def _as_served(self, holder: ModelVersion) -> ModelIdentity:
        """Who holds the alias with the files it has now, or with unreadable ones, which nothing was compared with."""
        try:
            return identity(holder, self._files_digest(holder))
        except EvidenceError:
            return identity(holder, UNREADABLE)

    def _files_digest(self, version: ModelVersion) -> str:
        """The digest of a version's files; EvidenceError when MLflow has none of them, RegistryError when it fails."""
        uri = f"models:/{version.name}/{version.version}"
        what = f"the files of {uri} cannot be fetched"
        with tempfile.TemporaryDirectory(prefix="attrail-") as scratch, self.registry.asking(what):
            try:
                return digest_folder(fetch_model(uri, Path(scratch)))
            except MlflowException as error:
                if error.error_code in ABSENT:
                    raise EvidenceError(str(registry_error(what, error, self.registry.shown))) from error
                raise


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Raise what the gate on the server refuses as a GateRefusal; MLflow's other errors stay as they are."""
    try:
        yield
    except MlflowException as error:
        facts: dict[str, Any] = getattr(error, "json", {}).get("attrail", {})
        if error.error_code == REFUSED and facts:
            raise GateRefusal(error.message.removeprefix(f"{REFUSED}: "), ", ".join(facts["reasons"])) from error
        raise


def _compared_with(envelope: bytes, policy: GatePolicy) -> ModelIdentity | None:
    """The reference of a signed verdict, None of anything else."""
    try:
        statement = open_statement(envelope, policy.trusted)
    except GateRefusal:
        return None
    return statement.reference if isinstance(statement, VerdictStatement) else None


def _as_the_server_knows(decision: Decision) -> Decision:
    """A decision about a role that nobody holds, with what it depends on besides."""
    if isinstance(decision.statement, VerdictStatement):
        last = f"{decision.statement.reference.label} was the last to be {decision.role}"
    elif isinstance(decision.statement, Baseline):
        last = f"nothing ever was {decision.role}"
    else:
        return decision
    return replace(decision, sentence=f"{decision.sentence}, if {last}, which the server knows")
