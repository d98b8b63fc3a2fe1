"""The tags in which a model version carries its evidence, and when one may replace another. Pure: no MLflow, no clock.

Anybody who may tag a version can tag it with anything; what counts is the signature inside. So the gate needs no
protected tags to be safe, but without them a valid statement could be overwritten with rubbish, or by an older one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from attrail_explainers.errors import GateRefusal
from attrail_mlflow.registry.tags import (
    PREFIX,
    RETRAIN_TAG,
    RETRAIN_TAGS,
    RETRAINS,
    STATEMENT_TAG,
    WAIVER_TAG,
)
from attrail_mlflow.signing.fields import plain
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.signing.trusted_keys import TrustedKeys
from attrail_mlflow.statements.baseline import Baseline
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate
from attrail_mlflow.statements.verdict import VerdictStatement
from attrail_mlflow.statements.verification import open_statement, verify_statement

ENVELOPES = (STATEMENT_TAG, WAIVER_TAG)
LONGEST = 100_000  # characters: MLflow keeps no longer tag of a version (mlflow.utils.validation)


@dataclass(frozen=True)
class Objection:
    """A statement against a version: when it was ``issued`` by the clock of who signed it, and ``seen`` by the gate's.

    ``later`` says that the gate saw it after the statement it is held against.
    """

    issued: datetime
    seen: datetime
    later: bool = False

    def outvotes(self, issued: datetime) -> bool:
        """Whether it counts more than a statement for the version that was issued then.

        What was signed before the gate saw the objection is older than it, whatever the clock says that signed the
        objection: it may be days behind or ahead. Of two from the same second it is the objection that counts.
        """
        return self.later or issued < self.seen or issued == self.seen <= self.issued


def speaks_against(statement: Predicate) -> bool:
    """Whether a statement is against promoting its version: a verdict not PASS, a baseline with no check that held."""
    if isinstance(statement, VerdictStatement):
        return statement.verdict != "PASS"
    return isinstance(statement, Baseline) and not (statement.checks and all(each.passed for each in statement.checks))


def is_evidence(key: Any) -> bool:
    """Whether a tag is attrail's, in any spelling."""
    return isinstance(key, str) and folded(key).startswith(PREFIX)


def folded(key: str) -> str:
    """A tag's key as every database would equate it with others: some ignore case, some blanks at the end."""
    return key.strip().casefold()


def is_retrain(tags: Mapping[str, str]) -> bool:
    """Whether a version's tags say, in any spelling, that attrail trained it for a noise floor."""
    return any(folded(key) == RETRAIN_TAG for key in tags)


def require_same_retrain(model: str, tags: Mapping[str, str], key: str, value: str | None) -> None:
    """Raise GateRefusal if a retrain would be another one, or none, or a version of some other model become one.

    ``tags`` are those of the version of ``model`` now, ``key`` (``folded``) is to be ``value``, None to be deleted.
    """
    before = [kept for name, kept in tags.items() if folded(name) == key]
    if key in RETRAIN_TAGS and is_retrain(tags) and before and before != [value]:
        raise GateRefusal("what a retrain was trained as stays written on it", Reason.PROTECTED_TAG)
    if key == RETRAIN_TAG and not before and not model.endswith(RETRAINS):
        raise GateRefusal(f"retrains are versions of a model whose name ends with {RETRAINS}", Reason.PROTECTED_TAG)


def statement_about(
    envelope: str | None, model: ModelIdentity, trusted: TrustedKeys, now: datetime
) -> Predicate | None:
    """The statement in a tag if it is signed by a trusted key, valid now and about this version; else None."""
    try:
        found = verify_statement(envelope.encode() if envelope else None, trusted, now)
    except GateRefusal:
        return None
    return found if _is_about(found, model) else None


def signed_about(envelope: str | None, model: ModelIdentity, trusted: TrustedKeys) -> Predicate | None:
    """The statement in a tag if it is signed by a trusted key and about this version, valid now or not; else None."""
    try:
        found = open_statement(envelope.encode() if envelope else None, trusted)
    except GateRefusal:
        return None
    return found if _is_about(found, model) else None


def _is_about(statement: Predicate, model: ModelIdentity) -> bool:
    about: ModelIdentity | None = getattr(statement, "model", None)
    same = (model.name, model.version, model.source)
    return about is not None and (about.name, about.version, about.source) == same


def require_no_loss(old: Predicate | None, new: Predicate | None, *, outvoted: bool) -> None:
    """Raise GateRefusal if valid evidence would give way to something older, or to none.

    ``old`` is what ``statement_about`` found in a tag, ``new`` what it would find there; ``outvoted`` says that another
    statement counts more than ``new``.
    """
    if old is None or new == old:
        return
    if new is None:
        raise GateRefusal(
            "the version carries a valid signed statement, which only a newer one about the same version may replace",
            Reason.PROTECTED_TAG,
        )
    if outvoted:
        raise GateRefusal(
            f"the version carries a newer signed statement than this one of {plain(new.issued)}, or one against it "
            "that this one does not outvote: audit again, where the clock agrees with the server's",
            Reason.SUPERSEDED,
        )
