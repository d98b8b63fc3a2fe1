"""The tags in which a model version carries its evidence, and when one may replace another. Pure: no MLflow, no clock.

Anybody who may tag a version can tag it with anything; what counts is the signature inside. So the gate needs no
protected tags to be safe, but without them a valid statement could be overwritten with rubbish, or by an older one.
"""

from datetime import datetime

from attrail_explainers.errors import GateRefusal
from attrail_mlflow.predicate import ModelIdentity, Predicate
from attrail_mlflow.reason import Reason
from attrail_mlflow.trusted_keys import TrustedKeys
from attrail_mlflow.verification import verify_statement

PREFIX = "attrail."
STATEMENT = "attrail.statement"
WAIVER = "attrail.waiver"
ENVELOPES = (STATEMENT, WAIVER)


def is_evidence(key: str) -> bool:
    """Whether a tag is attrail's, in any spelling."""
    return folded(key).startswith(PREFIX)


def folded(key: str) -> str:
    """A tag's key as every database would equate it with others: some ignore case, some blanks at the end."""
    return key.strip().casefold()


def statement_about(
    envelope: str | None, model: ModelIdentity, trusted: TrustedKeys, now: datetime
) -> Predicate | None:
    """The statement in a tag if it is signed by a trusted key, valid now and about this version; else None."""
    try:
        found = verify_statement(envelope.encode() if envelope else None, trusted, now)
    except GateRefusal:
        return None
    about: ModelIdentity | None = getattr(found, "model", None)
    same = about is not None and (about.name, about.version, about.source) == (model.name, model.version, model.source)
    return found if same else None


def require_no_loss(old: Predicate | None, new: Predicate | None) -> None:
    """Nothing, when ``new`` may take the place of ``old``, what statement_about found in a tag and would find in it.

    Raises GateRefusal when valid evidence would give way to something older, or to none.
    """
    if old is None:
        return
    if new is None:
        raise GateRefusal(
            "the version carries a valid signed statement, which only a newer one about the same version may replace",
            Reason.PROTECTED_TAG,
        )
    if new.issued < old.issued:
        raise GateRefusal("the version carries a newer signed statement than this one", Reason.SUPERSEDED)
