"""Statements read back: who signed, may the key, is it valid. No torch, no MLflow, no network, no clock."""

from datetime import datetime, timedelta

from attrail_explainers.errors import EvidenceError, GateRefusal
from attrail_mlflow.signing.envelope import read_envelope, signers_of
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.signing.trusted_keys import TrustedKeys
from attrail_mlflow.statements.predicate import Predicate
from attrail_mlflow.statements.statement import statement_from

SKEW = timedelta(minutes=5)  # how far the clock of the machine that signed may be ahead


def verify_statement(envelope: bytes | None, trusted: TrustedKeys, now: datetime) -> Predicate:
    """The statement in an envelope, signed by trusted keys that may sign its kind, and valid at ``now`` (UTC).

    Raises GateRefusal with its reason: missing, malformed, unsigned, untrusted-key, bad-signature, not-yet-valid or
    expired.
    """
    statement = open_statement(envelope, trusted)
    if statement.issued > now + SKEW:
        raise GateRefusal(
            f"the statement was issued at {statement.issued}, it is {now} here: compare the clocks",
            Reason.NOT_YET_VALID,
        )
    expires = getattr(statement, "expires", None)
    if expires is not None and expires <= now:
        raise GateRefusal(f"the statement expired at {expires}: audit again", Reason.EXPIRED)
    return statement


def open_statement(envelope: bytes | None, trusted: TrustedKeys) -> Predicate:
    """The statement in an envelope, signed by trusted keys that may sign its kind, valid or not any more.

    It is what an auditor reads years later. Raises GateRefusal with its reason: missing, malformed, unsigned,
    untrusted-key or bad-signature.
    """
    if not envelope:
        raise GateRefusal("there is no signed statement for this version: audit it first", Reason.MISSING)
    try:
        opened = read_envelope(envelope)
    except EvidenceError as error:
        raise GateRefusal(str(error), Reason.MALFORMED) from error
    signers = signers_of(opened, trusted)
    try:
        statement = statement_from(opened.payload)
    except EvidenceError as error:
        raise GateRefusal(str(error), Reason.MALFORMED) from error
    for key in signers:
        if statement.KIND not in key.may:
            raise GateRefusal(
                f"the key of {key.owner} ({key.id}) may not sign a {statement.KIND} statement", Reason.UNTRUSTED_KEY
            )
    return statement
