"""The gate's decision: may this version take this role? Pure: no MLflow, no database, no clock.

``verification`` says whether one statement covers one promotion. This says which statement counts: the version's
verdict or baseline, never an older one than was seen before, never one that another audit spoke against since, never
twice; a waiver if that does not do.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from attrail_explainers.digest import digest_of_bytes
from attrail_explainers.errors import EvidenceError, GateRefusal
from attrail_mlflow.gate.coverage import Promotion, require_covers
from attrail_mlflow.gate.evidence_tags import Objection
from attrail_mlflow.gate.policy import GatePolicy
from attrail_mlflow.signing.envelope import read_envelope
from attrail_mlflow.signing.fields import plain
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate
from attrail_mlflow.statements.verification import verify_statement
from attrail_mlflow.statements.waiver import Waiver

UNCHANGED = "unchanged"


@dataclass(frozen=True)
class Case:
    """What is asked, and what the registry and the gate's own ledger know about it.

    ``version`` is the candidate, its files not hashed yet: ``hash_files`` does it, raising EvidenceError when they
    cannot be read. ``champion`` is who holds ``role``, or held it last, on the files that were approved; ``holds`` says
    that the candidate is the one who holds it. ``used`` are waivers' ids, and digests of statements that promoted to
    this role before; ``newest`` is when the newest statement for the version that was ever seen was issued,
    ``objections`` are those against it. ``champion_now`` gives who holds the role on the files it has now, None when
    nobody holds it. ``retrain`` says that attrail trained the version for a noise floor.
    """

    version: ModelIdentity
    role: str
    hash_files: Callable[[], str]
    statement: bytes | None = None
    waiver: bytes | None = None
    champion: ModelIdentity | None = None
    holds: bool = False
    used: Collection[str] = field(default_factory=frozenset)
    newest: datetime | None = None
    objections: Sequence[Objection] = ()
    champion_now: Callable[[], ModelIdentity] | None = None
    retrain: bool = False


@dataclass(frozen=True)
class Decision:
    """What the gate decided: allowed when there are no ``reasons``. ``sentence`` is for people.

    ``model`` is the version with its digests, ``by`` the kind of statement that let it through, or ``unchanged``;
    ``evidence`` is the digest of the statement that was looked at.
    """

    model: ModelIdentity
    role: str
    sentence: str
    reasons: tuple[str, ...] = ()
    by: str | None = None
    statement: Predicate | None = None
    evidence: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether the version may take the role."""
        return not self.reasons

    @property
    def waiver_id(self) -> str | None:
        """The id of the waiver that let the version through, None when none did."""
        return self.statement.waiver_id if isinstance(self.statement, Waiver) else None

    def document(self) -> dict[str, Any]:
        """The decision as JSON values: for the journal, and for the client that was refused."""
        return {
            "model": {"name": self.model.name, "version": self.model.version},
            "alias": self.role,
            "reasons": list(self.reasons),
            "sentence": self.sentence,
            "by": self.by,
            "evidence": self.evidence,
            "run_id": getattr(self.statement, "run_id", None),
            "source": self.model.source,
            "artifact_digest": self.model.artifact_digest or None,
        }


def decide(case: Case, policy: GatePolicy, now: datetime) -> Decision:
    """Whether the case is allowed at ``now`` (UTC) under a policy, and why; see ``Reason`` for the codes."""
    if case.retrain and not case.holds:
        return _retrain(case)
    refusals = []
    attempts: tuple[Callable[[], Decision], ...] = (
        (lambda: _unchanged(case),)
        if case.holds
        else (lambda: _granted(case, case.statement, policy, now), lambda: _waived(case, policy, now))
    )
    for attempt in attempts:
        try:
            return attempt()
        except GateRefusal as error:
            refusals.append(error)
    found = [each for each in refusals if each is refusals[0] or case.waiver]
    why = "; its waiver does not help: ".join(str(each) for each in found)
    sentence = f"{case.version.label} may not become {case.role}: {why}"
    reasons = tuple(each.reason for each in found)
    return Decision(case.version, case.role, sentence, reasons, evidence=carried_evidence(case.statement))


def misspelt(model: ModelIdentity, asked: str, role: str) -> Decision:
    """The refusal of a protected alias in another spelling: some databases would take it for the alias itself."""
    sentence = f"{model.label} may not become {asked!r}: the protected alias is written {role!r}"
    return Decision(model, role, sentence, (Reason.MISSPELT,))


def _retrain(case: Case) -> Decision:
    """The refusal of a version that is there to be measured against, whatever was signed about it."""
    sentence = (
        f"{case.version.label} may not become {case.role}: it is a retrain, trained for a noise floor; register its "
        "files as a version of the model itself, and audit that"
    )
    return Decision(case.version, case.role, sentence, (Reason.RETRAIN,), evidence=carried_evidence(case.statement))


def statement_digest(envelope: bytes) -> str:
    """The digest of a statement whoever signed it: an envelope that lost one of two signatures is no other statement.

    Raises EvidenceError when the envelope is malformed.
    """
    return digest_of_bytes(read_envelope(envelope).payload)


def carried_evidence(statement: bytes | None) -> str | None:
    """The digest of the statement a version carries, whatever it is worth; None when it carries none."""
    try:
        return statement_digest(statement) if statement else None
    except EvidenceError:
        return None


def _unchanged(case: Case) -> Decision:
    """Set again what is set: a client's retry. Nothing changes, unless the files did since they were approved."""
    found = replace(case.version, artifact_digest=_hashed(case))
    if case.champion is None or found.artifact_digest != case.champion.artifact_digest:
        raise GateRefusal(
            f"the files of {found.label} are not those that became {case.role}: they changed since; restore them, or "
            "register and audit a new version",
            Reason.WRONG_BYTES,
        )
    return Decision(found, case.role, f"{found.label} is {case.role} already", by=UNCHANGED)


def _waived(case: Case, policy: GatePolicy, now: datetime) -> Decision:
    if not case.waiver:
        raise GateRefusal("there is no waiver", Reason.MISSING)
    given = verify_statement(case.waiver, policy.trusted, now)
    if given.KIND != Kind.WAIVER:
        raise GateRefusal(f"a {given.KIND} statement was given as a waiver", Reason.WRONG_KIND)
    return _granted(case, case.waiver, policy, now)


def _granted(case: Case, envelope: bytes | None, policy: GatePolicy, now: datetime) -> Decision:
    """The cheap questions first, so that only who has a signed statement makes the server read a model's files."""
    statement = verify_statement(envelope, policy.trusted, now)
    evidence = statement_digest(envelope or b"")
    stated: ModelIdentity | None = getattr(statement, "model", None)
    claimed = replace(case.version, artifact_digest=stated.artifact_digest if stated else "")
    require_covers(statement, _promotion(case, claimed, case.champion, policy))
    _require_current(statement, evidence, case, policy, now)
    found = replace(claimed, artifact_digest=_hashed(case), weights_digest=stated.weights_digest if stated else None)
    require_covers(statement, _promotion(case, found, _champion_now(statement, case), policy))
    sentence = f"{found.label} may become {case.role}: a signed {statement.KIND} covers it"
    return Decision(found, case.role, sentence, by=statement.KIND, statement=statement, evidence=evidence)


def _promotion(case: Case, model: ModelIdentity, champion: ModelIdentity | None, policy: GatePolicy) -> Promotion:
    return Promotion(model, case.role, champion, policy.policies, case.used)


def _champion_now(statement: Predicate, case: Case) -> ModelIdentity | None:
    """The champion as it is served now, for what was compared with it: its files may have changed since they took it.

    A waiver compares nothing, and is the way out when the champion's files are lost.
    """
    if case.champion_now is None or isinstance(statement, Waiver):
        return case.champion
    return case.champion_now()


def _require_current(statement: Predicate, evidence: str, case: Case, policy: GatePolicy, now: datetime) -> None:
    """Raise GateRefusal unless the statement is unused, the newest about its version, and what the policy asks for."""
    if evidence in case.used:
        raise GateRefusal(
            f"this {statement.KIND} made a version {case.role} before and counts once: audit again", Reason.ALREADY_USED
        )
    if isinstance(statement, Waiver):
        return
    if case.newest is not None and statement.issued < case.newest:
        raise GateRefusal(
            f"the statement of {plain(statement.issued)} was superseded by one of {plain(case.newest)}",
            Reason.SUPERSEDED,
        )
    objection = next((each for each in case.objections if each.outvotes(statement.issued)), None)
    if objection is not None:
        raise GateRefusal(
            f"the statement of {plain(statement.issued)} was superseded by one against the version, of "
            f"{plain(objection.issued)} and seen here at {plain(objection.seen)}: audit again, where the clock agrees "
            "with the server's",
            Reason.SUPERSEDED,
        )
    if policy.max_age is not None and statement.issued + policy.max_age <= now:
        raise GateRefusal(
            f"the statement of {plain(statement.issued)} is older than {policy.max_age.days} days: audit again",
            Reason.EXPIRED,
        )
    missing = policy.slices - set(getattr(statement, "slices", {}).values())
    if missing:
        raise GateRefusal(
            f"the statement covers no slice {min(missing)}, which the gate's policy asks for: audit on it too",
            Reason.WRONG_POLICY,
        )


def _hashed(case: Case) -> str:
    try:
        return case.hash_files()
    except EvidenceError as error:
        raise GateRefusal(f"the files of {case.version.label} cannot be hashed: {error}", Reason.WRONG_BYTES) from error
