"""DSSE envelopes (v1): a payload with its type and signatures over both.

https://github.com/secure-systems-lab/dsse. Encoding and signing are in-toto's ``securesystemslib``. Stricter than the
specification in one point: an envelope must be canonical JSON with standard base64, so that no byte of a kept envelope
can change unnoticed.
"""

import base64
import binascii
from collections.abc import Iterable
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature

from attrail_explainers.errors import EvidenceError, GateRefusal
from attrail_mlflow.signing.canonical_json import decode_object, encode
from attrail_mlflow.signing.fields import Reader, listed, text, with_fields, wrong
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.signing.trusted_keys import TrustedKey, TrustedKeys

PAYLOAD_TYPE = "application/vnd.in-toto+json"
LIMIT = 4 * 1024 * 1024  # bytes; what is longer is no statement, and is not parsed


def sign(payload: bytes, signers: Iterable[CryptoSigner]) -> bytes:
    """The payload in an envelope with one signature per signer; without a signer it is unsigned and trusted nowhere."""
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    for signer in signers:
        envelope.sign(signer)
    return encode(envelope.to_dict())


def read_envelope(data: bytes) -> Envelope:
    """The envelope of a text, its signatures not checked yet; EvidenceError when it is malformed."""
    if len(data) > LIMIT:
        raise EvidenceError(f"the envelope has {len(data)} bytes; no statement is longer than {LIMIT}")
    try:
        found = _ENVELOPE(decode_object(data), "envelope")
    except ValueError as error:
        raise EvidenceError(f"the envelope cannot be read: {error}") from error
    if found["payloadType"] != PAYLOAD_TYPE:
        raise wrong("envelope.payloadType", PAYLOAD_TYPE, found["payloadType"])
    signatures = {each.keyid: each for each in found["signatures"]}
    if len(signatures) < len(found["signatures"]):
        raise EvidenceError("envelope.signatures: a key signed twice")
    return Envelope(found["payload"], PAYLOAD_TYPE, signatures)


def signers_of(envelope: Envelope, trusted: TrustedKeys) -> tuple[TrustedKey, ...]:
    """The trusted keys that signed an envelope: at least one, and every signature in it must be by a trusted key.

    Raises GateRefusal: unsigned, untrusted-key or bad-signature.
    """
    if not envelope.signatures:
        raise GateRefusal("the statement is not signed: set a signing key and audit again", Reason.UNSIGNED)
    return tuple(_signer(envelope, signature, trusted) for signature in envelope.signatures.values())


def _signer(envelope: Envelope, signature: Signature, trusted: TrustedKeys) -> TrustedKey:
    key = trusted.get(signature.keyid)
    if key is None:
        raise GateRefusal(f"the statement is signed by {signature.keyid}, which is not trusted", Reason.UNTRUSTED_KEY)
    try:
        key.verifier.verify_signature(signature, envelope.pae())
    except UnverifiedSignatureError as error:
        sentence = f"the signature of {key.owner} ({key.id}) does not fit the statement: one of them was altered"
        raise GateRefusal(sentence, Reason.BAD_SIGNATURE) from error
    return key


def _base64(value: Any, where: str) -> bytes:
    """Standard base64 in its only spelling: padded, no other characters, no stray bits."""
    try:
        data = base64.b64decode(text(value, where), validate=True)
    except (ValueError, binascii.Error) as error:
        raise wrong(where, "standard base64", value) from error
    if base64.b64encode(data).decode() != value:
        raise wrong(where, "standard base64", value)
    return data


def _signature(keyid: str, sig: bytes) -> Signature:
    return Signature(keyid, sig.hex())


_ENVELOPE: Reader[dict[str, Any]] = with_fields(
    {
        "payload": _base64,
        "payloadType": text,
        "signatures": listed(with_fields({"keyid": text, "sig": _base64}, _signature)),
    },
    dict,
)
