"""Reconciliation: whether what holds a protected role today still has evidence for it.

The gate judges a promotion at the moment it happens. Afterwards files can be exchanged, keys revoked, statements
removed, and whoever has the database can move an alias without being asked. This looks again, as any client can.
"""

from collections.abc import Iterator

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from attrail_explainers.errors import EvidenceError, GateRefusal, RegistryError
from attrail_mlflow.gate.client import Candidate
from attrail_mlflow.gate.decision import Decision
from attrail_mlflow.gate.policy import GatePolicy
from attrail_mlflow.gate.versions import identity, is_prompt
from attrail_mlflow.registry.errors import ABSENT, asking
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.searching import registered_models, versions_named
from attrail_mlflow.registry.tags import STATEMENT_TAG, WAIVER_TAG
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate
from attrail_mlflow.statements.verdict import VerdictStatement
from attrail_mlflow.statements.verification import open_statement


def held_roles(registry: Registry, policy: GatePolicy) -> Iterator[Decision]:
    """For every version that holds a protected role: whether its evidence is there, signed and about its files.

    Neither expiry nor the reference counts any more: both were judged at the promotion. Raises RegistryError when
    MLflow cannot be reached.
    """
    with asking(f"the registry at {registry.shown} cannot be read"):
        for model in registered_models(registry.client):
            yield from _looked_at(registry, model.name, policy)


def _looked_at(registry: Registry, name: str, policy: GatePolicy) -> Iterator[Decision]:
    try:
        held = list(_held(registry, name, policy))
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        told = f"{name} is listed, but MLflow does not show it: {error}"  # as a prompt that is none, or half of one
        yield Decision(ModelIdentity(name, "", "", ""), "", told, (Reason.MALFORMED,))
        return
    for version, role in held:
        yield _judged(registry, version, role, policy)


def _held(registry: Registry, name: str, policy: GatePolicy) -> Iterator[tuple[ModelVersion, str]]:
    for alias, number in registry.client.get_registered_model(name).aliases.items():
        role = policy.role_of_alias(alias)
        if role:
            yield registry.client.get_model_version(name, number), role
    for version in versions_named(registry.client, name):
        role = policy.role_of_stage(version.current_stage or "")
        if role:
            yield version, role


def _judged(registry: Registry, version: ModelVersion, role: str, policy: GatePolicy) -> Decision:
    model = identity(version)
    if is_prompt(version):
        return Decision(model, role, f"{model.label} is {role}: a prompt, which needs no evidence")
    try:
        found = Candidate(registry, version).identity()
        statement = _evidence(version, found, policy)
    except (GateRefusal, EvidenceError, RegistryError) as error:  # files that are gone are no reason to look no further
        reason = getattr(error, "reason", Reason.WRONG_BYTES)
        return Decision(model, role, f"{model.label} is {role}: {error}", (reason,))
    return Decision(found, role, f"{found.label} is {role} by a signed {statement.KIND}", by=statement.KIND)


def _evidence(version: ModelVersion, model: ModelIdentity, policy: GatePolicy) -> Predicate:
    """The statement or else the waiver that a version carries, if it is signed and about the files it has now."""
    refusals = []
    for tag in (STATEMENT_TAG, WAIVER_TAG):
        try:
            return _about(open_statement(version.tags.get(tag, "").encode(), policy.trusted), model)
        except GateRefusal as error:
            refusals.append(error)
    raise refusals[0]


def _about(statement: Predicate, model: ModelIdentity) -> Predicate:
    stated: ModelIdentity | None = getattr(statement, "model", None)
    if stated is None or (stated.name, stated.version, stated.source) != (model.name, model.version, model.source):
        raise GateRefusal("its statement is about something else", Reason.WRONG_MODEL)
    if stated.artifact_digest != model.artifact_digest:
        raise GateRefusal("its files are not those its statement is about", Reason.WRONG_BYTES)
    if isinstance(statement, VerdictStatement) and statement.verdict != "PASS":
        reason = Reason.VERDICT_DRIFT if statement.verdict == "DRIFT" else Reason.VERDICT_INCONCLUSIVE
        raise GateRefusal(f"its newest verdict is {statement.verdict}", reason)
    return statement
