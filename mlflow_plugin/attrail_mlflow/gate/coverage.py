"""Whether a statement covers a promotion, a rule for each thing it must be about: pure functions, no clock.

The server-side gate decides with them, and ``attrail gate`` asks the same in advance.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from attrail_explainers.errors import GateRefusal
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.statements.baseline import Baseline
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate
from attrail_mlflow.statements.verdict import VerdictStatement
from attrail_mlflow.statements.waiver import Waiver


@dataclass(frozen=True)
class Promotion:
    """What is about to happen, as the gate itself established it: ``model``'s artifact digest from re-hashed bytes.

    ``champion`` is who holds the alias now, or held it last if nobody does; None only if nobody ever did, so that
    deleting the alias opens no door for a baseline. ``policies`` are the digests of accepted drift policies, None for
    any. ``used_waivers`` are the ids of waivers that let a promotion through before.
    """

    model: ModelIdentity
    alias: str
    champion: ModelIdentity | None
    policies: Collection[str] | None = None
    used_waivers: Collection[str] = field(default_factory=frozenset)


def require_covers(statement: Predicate, promotion: Promotion) -> None:
    """Raise GateRefusal, with its reason, unless a verified statement lets this promotion through.

    A verdict must be PASS, about these very bytes, against who is
    champion now; a waiver about this alias and not used before; a baseline about the first champion.
    """
    if isinstance(statement, VerdictStatement):
        _same_model(statement.model, promotion.model)
        _verdict(statement)
        _policy(statement.policy_digest, promotion)
        _reference(statement.reference, promotion)
    elif isinstance(statement, Waiver):
        _same_model(statement.model, promotion.model)
        _waiver(statement, promotion)
    elif isinstance(statement, Baseline):
        _same_model(statement.model, promotion.model)
        _policy(statement.policy_digest, promotion)
        _baseline(statement, promotion)
    else:
        raise GateRefusal(f"a {statement.KIND} statement lets no version through", Reason.WRONG_KIND)


def _same_model(stated: ModelIdentity, found: ModelIdentity) -> None:
    """Raise GateRefusal unless both are of one name, version, source and bytes, and weights where both loaded them."""
    if (stated.name, stated.version) != (found.name, found.version):
        raise GateRefusal(f"the statement is about {stated.label}, not about {found.label}", Reason.WRONG_MODEL)
    if stated.source != found.source:
        raise GateRefusal(
            f"{found.label} has the source {found.source}, the statement is about {stated.source}: the version was "
            "registered anew; audit it again",
            Reason.WRONG_SOURCE,
        )
    weights = {stated.weights_digest, found.weights_digest} - {None}
    if stated.artifact_digest != found.artifact_digest or len(weights) > 1:
        raise GateRefusal(
            f"the files of {found.label} are not those the statement is about: they changed since; audit it again",
            Reason.WRONG_BYTES,
        )


def _policy(policy_digest: str, promotion: Promotion) -> None:
    if promotion.policies is not None and policy_digest not in promotion.policies:
        raise GateRefusal(
            f"the statement was made under the policy {policy_digest}, which is not accepted here: audit again under "
            "an accepted one",
            Reason.WRONG_POLICY,
        )


def _reference(reference: ModelIdentity, promotion: Promotion) -> None:
    champion = promotion.champion
    if champion is None:
        raise GateRefusal(
            f"nothing has ever been {promotion.alias}: the first needs a baseline, not a verdict against "
            f"{reference.label}",
            Reason.STALE_REFERENCE,
        )
    if (reference.name, reference.version, reference.source) != (champion.name, champion.version, champion.source):
        raise GateRefusal(
            f"the candidate was compared with {reference.label}, but {promotion.alias} is {champion.label} now: audit "
            "against it",
            Reason.STALE_REFERENCE,
        )
    try:
        _same_model(reference, champion)
    except GateRefusal as error:
        raise GateRefusal(
            f"the files of {champion.label}, which is {promotion.alias}, are not those that the candidate was compared "
            "with: restore them and audit again, or ask for a waiver",
            Reason.STALE_REFERENCE,
        ) from error


def _verdict(statement: VerdictStatement) -> None:
    if statement.verdict == "DRIFT":
        raise GateRefusal(f"the verdict is DRIFT: {statement.reason}", Reason.VERDICT_DRIFT)
    if statement.verdict != "PASS":
        raise GateRefusal(f"the verdict is {statement.verdict}: {statement.reason}", Reason.VERDICT_INCONCLUSIVE)


def _waiver(waiver: Waiver, promotion: Promotion) -> None:
    if waiver.alias.casefold() != promotion.alias.casefold():
        raise GateRefusal(f"the waiver is for {waiver.alias!r}, not for {promotion.alias!r}", Reason.WRONG_ALIAS)
    if waiver.waiver_id in promotion.used_waivers:
        raise GateRefusal(f"waiver {waiver.waiver_id} was used before: ask for another", Reason.ALREADY_USED)


def _baseline(baseline: Baseline, promotion: Promotion) -> None:
    if promotion.champion is not None:
        raise GateRefusal(
            f"{promotion.champion.label} is or was {promotion.alias}: a baseline is for the first only; audit against "
            "that version",
            Reason.NOT_FIRST,
        )
    failed = [each for each in baseline.checks if not each.passed]
    if failed:
        first = failed[0]
        raise GateRefusal(
            f"{first.check} of {first.explainer} failed on slice {first.slice}: the explainer cannot be relied on here",
            Reason.CHECKS_FAILED,
        )
    if not baseline.checks:
        raise GateRefusal("the baseline has no instrument checks", Reason.CHECKS_FAILED)
