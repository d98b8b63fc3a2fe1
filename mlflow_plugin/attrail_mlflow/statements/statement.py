"""in-toto statements (v1): what is signed, as canonical JSON and read back strictly.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md. in-toto's own Python classes hold the predicate
in a protobuf Struct, which turns every integer into a float; so the JSON is written here, and a test holds it against
them.
"""

from collections.abc import Mapping
from typing import Any

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.signing.canonical_json import decode_object, encode
from attrail_mlflow.signing.fields import Reader, anything, mapped, text, with_fields, wrong
from attrail_mlflow.statements.baseline import Baseline
from attrail_mlflow.statements.bundle_seal import Seal
from attrail_mlflow.statements.predicate import Predicate
from attrail_mlflow.statements.verdict import VerdictStatement
from attrail_mlflow.statements.waiver import Waiver

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
CLASSES: Mapping[str, type[Predicate]] = {
    each.KIND.predicate_type: each for each in (VerdictStatement, Baseline, Waiver, Seal)
}
_OUTER: Reader[dict[str, Any]] = with_fields(
    {"_type": text, "subject": anything, "predicateType": text, "predicate": mapped(anything)}, dict
)


def payload_of(statement: Predicate) -> bytes:
    """The statement's canonical text, which is what is signed; EvidenceError when JSON cannot hold a value of it."""
    return _payload(statement, statement.subjects())


def statement_from(payload: bytes) -> Predicate:
    """The statement of a payload.

    Raises EvidenceError naming what is wrong: not canonical, an unknown kind, a key missing, unknown or of another
    kind, or subjects that are not those of the predicate.
    """
    try:
        document = _OUTER(decode_object(payload), "statement")
    except ValueError as error:
        raise EvidenceError(f"the statement cannot be read: {error}") from error
    if document["_type"] != STATEMENT_TYPE:
        raise wrong("statement._type", STATEMENT_TYPE, document["_type"])
    found = _read(document)
    if payload not in {payload_of(found), _payload(found, _former_subjects(found))}:
        raise EvidenceError("statement.subject: expected what the predicate is about, got something else")
    return found


def _payload(statement: Predicate, subjects: Mapping[str, Mapping[str, str]]) -> bytes:
    document = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": dict(digests)} for name, digests in subjects.items()],
        "predicateType": statement.KIND.predicate_type,
        "predicate": statement.document(),
    }
    try:
        return encode(document)
    except ValueError as error:
        raise EvidenceError(f"the {statement.KIND} statement cannot be written as JSON: {error}") from error


def _former_subjects(statement: Predicate) -> dict[str, Mapping[str, str]]:
    """The subjects as first released, with the model's under attrail's own algorithms; such statements stay valid."""
    model = getattr(statement, "model", None)  # a seal is about no model
    return dict(statement.subjects()) | (model.former_subject() if model else {})


def _read(document: Mapping[str, Any]) -> Predicate:
    class_ = CLASSES.get(document["predicateType"])
    if class_ is None:
        raise wrong("statement.predicateType", f"one of {', '.join(CLASSES)}", document["predicateType"])
    return with_fields(class_.FIELDS, class_)(document["predicate"], "predicate")
