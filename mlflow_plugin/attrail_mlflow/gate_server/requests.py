"""Requests, judged: what the registry and earlier promotions say about one, put before the gate's decision.

Every function returns a Decision, or None for what is none of the gate's business.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from attrail_explainers.errors import GateRefusal
from attrail_mlflow.gate.decision import Case, Decision, carried_evidence, decide, misspelt, statement_digest
from attrail_mlflow.gate.evidence_tags import (
    ENVELOPES,
    folded,
    is_retrain,
    require_no_loss,
    require_same_retrain,
    signed_about,
    speaks_against,
    statement_about,
)
from attrail_mlflow.gate.policy import STAGE, GatePolicy
from attrail_mlflow.gate.versions import identity, is_prompt, same_version
from attrail_mlflow.gate_server.actor import request_user
from attrail_mlflow.gate_server.registry_view import RegistryView
from attrail_mlflow.gate_server.transaction import GateTransaction
from attrail_mlflow.registry.model_files import SlowFiles
from attrail_mlflow.registry.tags import STATEMENT_TAG, WAIVER_TAG
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate
from attrail_mlflow.statements.verification import verify_statement

ADOPTED = "adopted"  # what held a role when the gate first looked: not approved, but what candidates replace
REMOVAL = "removal"


@dataclass(frozen=True)
class RequestJudge:
    """The gate's questions to one registry under one policy."""

    view: RegistryView
    policy: GatePolicy

    def promotion(self, name: str, number: Any, role: str, asked: str, desk: GateTransaction) -> Decision | None:
        """The decision on whether a version may take a role, None for a prompt, which may take any.

        ``asked`` is how the request wrote the role.
        """
        version = self.view.version(name, number)
        left = self.policy.role_of_stage(version.current_stage or "")
        if left and role.startswith(STAGE) and left != role:
            departure = self._departure(version, [left], f"moved to {role}", desk)
            if departure is not None and not departure.allowed:
                return departure
        case = self.case(version, role, desk)
        if is_prompt(version) and case.champion is None and not desk.ledger.knows(version.name):
            return None
        if asked != role:
            return misspelt(case.version, asked, role)
        return decide(case, self.policy, desk.now)

    def case(self, version: ModelVersion, role: str, desk: GateTransaction) -> Case:
        """Everything that a decision about a promotion depends on."""
        model, holder = identity(version), self.view.holder(version.name, role)
        last = self.adopt(holder, role, desk) or desk.ledger.last(version.name, role)
        statement = version.tags.get(STATEMENT_TAG, "").encode()
        served = None if holder is None or is_prompt(holder) else partial(self.view.with_files, holder, desk.ahead)
        return Case(
            version=model,
            role=role,
            hash_files=partial(self.view.files_digest, version, desk.ahead),
            statement=statement,
            waiver=version.tags.get(WAIVER_TAG, "").encode(),
            champion=last,
            holds=holder is not None and last is not None and same_version(model, identity(holder)),
            used=desk.ledger.used(version.name, role),
            newest=desk.ledger.newest(model),
            objections=desk.ledger.objections(model, carried_evidence(statement)),
            champion_now=served,
            retrain=is_retrain(version.tags),
        )

    def adopt(self, holder: ModelVersion | None, role: str, desk: GateTransaction) -> ModelIdentity | None:
        """Who holds a role, None if nobody does: with the files it got it on, or now if the gate did not give it.

        That is written down, so they cannot be exchanged later to make another reference of it, and its removal opens
        no door for a baseline.
        """
        if holder is None or is_prompt(holder):
            return None
        taken = desk.ledger.taken(identity(holder), role)
        if taken is not None:
            return taken
        found = self.view.with_files(holder, desk.ahead)
        sentence = f"{found.label} was {role} before the gate looked"
        desk.note(Decision(found, role, sentence, by=ADOPTED, evidence=ADOPTED))
        return found

    def adopt_all(self, desk: GateTransaction) -> list[str]:
        """Adopt whatever holds a role: when a gate is switched on over a registry that is in use.

        What comes back are the URIs of files that must be read ahead first; the versions they belong to are left.
        """
        slow = []
        for name in self.view.names(desk.connection):
            for _, role in self.view.held(name):
                try:
                    self.adopt(self.view.holder(name, role), role, desk)
                except SlowFiles as error:
                    slow.append(error.uri)
        return slow

    def alias_removal(self, name: str, alias: str, role: str, desk: GateTransaction) -> Decision | None:
        """The decision on deleting a protected alias, None when no version has it."""
        version = self.view.by_alias(name, alias)
        return self.removal([(version, role)] if version else [], "alias deleted", desk)

    def stage_removal(self, name: str, number: Any, stage: str, desk: GateTransaction) -> Decision | None:
        """The decision on moving a version to a stage that is not protected, None when it leaves no protected one."""
        version = self.view.version(name, number)
        role = self.policy.role_of_stage(version.current_stage or "")
        return self._departure(version, [role] if role else [], f"moved to stage {stage}", desk)

    def version_removal(self, name: str, number: Any, desk: GateTransaction) -> Decision | None:
        """The decision on deleting a version, None when it holds no protected role."""
        version = self.view.version(name, number)
        return self._departure(version, self.view.roles(version), "version deleted", desk)

    def model_removal(self, name: str, desk: GateTransaction) -> Decision | None:
        """The decision on deleting a model with all versions, None when they hold no protected role."""
        return self.removal(self.view.held(name), "model deleted", desk)

    def removal(self, held: list[tuple[ModelVersion, str]], how: str, desk: GateTransaction) -> Decision | None:
        """The decision that notes who gave up the roles in ``held``, and ``how``; None when there are none.

        Nothing is promoted by it, so it is never a refusal.
        """
        models = [(version, role) for version, role in held if not is_prompt(version)]
        for version, role in models:
            self.adopt(version, role, desk)
        if not models:
            return None
        model, roles = identity(models[0][0]), ", ".join(role for _, role in models)
        return Decision(model, roles, f"{model.label} is {roles} no longer: {how}", by=REMOVAL)

    def _departure(self, version: ModelVersion, roles: list[str], how: str, desk: GateTransaction) -> Decision | None:
        """A version leaves a stage: not while an older one, which nobody looks at now, would be served in its place."""
        staged = next((role for role in roles if role.startswith(STAGE)), None)
        heir = self.view.heir(version, desk.connection, desk.workspace) if staged else None
        if staged is None or heir is None:
            return self.removal([(version, role) for role in roles], how, desk)
        model = identity(version)
        sentence = (
            f"{model.label} may not leave {staged} before {model.name}/{heir}, which is there too and would be served "
            "in its place: move the older version out first"
        )
        return Decision(model, staged, sentence, (Reason.HOLDS_ROLE,))

    def renaming(self, name: str, new_name: str, desk: GateTransaction) -> Decision | None:
        """A model that holds a role would carry it to a name under which nobody approved it."""
        held = self.view.held(name)
        moved = [each for each in held if not is_prompt(each[0]) or desk.ledger.knows(new_name)]
        if not moved:
            return None
        version, role = moved[0]
        sentence = (
            f"{name} may not be renamed to {new_name} while {name}/{version.version} is {role}: remove that first, and "
            "promote it anew under its new name"
        )
        return Decision(identity(version), role, sentence, (Reason.HOLDS_ROLE,))

    def tagging(self, name: str, number: Any, key: str, value: str | None, desk: GateTransaction) -> Decision | None:
        """The refusal to set a tag of attrail's, or to delete it if ``value`` is None; None where it may be done.

        Valid evidence gives way to newer only.
        """
        version = self.view.version(name, number)
        model = identity(version)
        try:
            self._require_auditor(folded(key))
            require_same_retrain(version.name, version.tags, folded(key), value)
            self._keep_evidence(version, model, folded(key), value, desk)
        except GateRefusal as error:
            sentence = f"the tag {key} of {model.label} may not be changed: {error}"
            return Decision(model, key, sentence, (error.reason,))
        return None

    def _require_auditor(self, key: str) -> None:
        user = request_user(self.policy.actor_header)
        if self.policy.auditors and key != WAIVER_TAG and user not in self.policy.auditors:
            raise GateRefusal(f"{user or 'an unknown user'} is no auditor of the gate's policy", Reason.PROTECTED_TAG)

    def _keep_evidence(
        self, version: ModelVersion, model: ModelIdentity, key: str, value: str | None, desk: GateTransaction
    ) -> None:
        if key not in ENVELOPES:
            return
        trusted = self.policy.trusted
        old = statement_about(version.tags.get(key), model, trusted, desk.now)
        if key == WAIVER_TAG:
            new = statement_about(value, model, trusted, desk.now)
            return require_no_loss(old, new, outvoted=old is not None and new is not None and new.issued < old.issued)
        signed = signed_about(value, model, trusted)
        if signed is None or value is None:
            return require_no_loss(old, None, outvoted=False)
        evidence = statement_digest(value.encode())
        outvoted = self._outvoted(model, evidence, signed, desk)
        desk.ledger.see(model, evidence, signed, desk.now)  # refused or too early, it has its place in the order
        if old is not None and not speaks_against(signed):
            verify_statement(value.encode(), trusted, desk.now)
        require_no_loss(old, signed, outvoted=outvoted)

    def _outvoted(self, model: ModelIdentity, evidence: str, statement: Predicate, desk: GateTransaction) -> bool:
        """Whether another statement counts more: none does than an objection that is new here."""
        if speaks_against(statement) and not desk.ledger.knows_statement(model, evidence):
            return False
        newest = desk.ledger.newest(model)
        older = newest is not None and statement.issued < newest
        return older or any(each.outvotes(statement.issued) for each in desk.ledger.objections(model, evidence))
