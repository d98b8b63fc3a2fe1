"""DSSE envelopes, held against the specification's own test vector and against an encoding written here."""

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import SSlibKey
from small_audit import signer_of, trusted_of

from attrail_explainers.errors import EvidenceError, GateRefusal
from attrail_mlflow.signing.canonical_json import encode
from attrail_mlflow.signing.envelope import LIMIT, PAYLOAD_TYPE, read_envelope, sign, signers_of
from attrail_mlflow.signing.keys import read_public, signer_pem
from attrail_mlflow.signing.refusal import Reason

# https://github.com/secure-systems-lab/dsse/blob/master/protocol.md, "Test Vectors"
BODY, TYPE = b"hello world", "http://example.com/HelloWorld"
ENCODED = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
X = 46950820868899156662930047687818585632848591499744589407958293238635476079160
Y = 5640078356564379163099075877009565129882514886557779369047442380624545832820
SIGNATURE = "A3JqsQGtVsJ2O2xqrI5IcnXip5GToJ3F+FnZ+O88SjtR6rDAajabZKciJTfUiHqJPcIAriEGAHTVeCUjW2JIZA=="


def encoded(type_: str, body: bytes) -> bytes:
    """The specification's pre-authentication encoding, written a second time."""
    name = type_.encode()
    return b" ".join([b"DSSEv1", str(len(name)).encode(), name, str(len(body)).encode(), body])


def test_the_encoding_is_the_specifications() -> None:
    assert Envelope(BODY, TYPE, {}).pae() == ENCODED == encoded(TYPE, BODY)
    raw = base64.b64decode(SIGNATURE)
    halves = encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
    EllipticCurvePublicNumbers(X, Y, SECP256R1()).public_key().verify(halves, ENCODED, ECDSA(SHA256()))


@given(st.binary(max_size=200))
def test_our_signature_is_over_that_encoding(body: bytes) -> None:
    signer = signer_of("auditor")
    envelope = json.loads(sign(body, [signer]))
    (signature,) = envelope["signatures"]
    public = read_public(signer_pem(signer), "here")
    public.verify(base64.b64decode(signature["sig"]), encoded(PAYLOAD_TYPE, body))
    assert base64.b64decode(envelope["payload"]) == body


def test_in_totos_library_accepts_our_envelope() -> None:
    signer = signer_of("auditor")
    Envelope.from_dict(json.loads(sign(b"{}", [signer]))).verify([signer.public_key], 1)


def test_it_accepts_it_with_a_key_file_alone_under_the_id_that_openssl_gives() -> None:
    signer = signer_of("auditor")
    public = load_pem_public_key(signer_pem(signer))
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = SSlibKey.from_crypto(public, keyid="sha256:" + hashlib.sha256(spki).hexdigest())
    envelope = json.loads(sign(b"{}", [signer]))
    assert Envelope.from_dict(envelope).verify([key], 1) == {key.keyid: key}


def test_every_signature_must_be_trusted() -> None:
    one, other = signer_of("one"), signer_of("other")
    both = read_envelope(sign(b"{}", [one, other]))
    assert {key.owner for key in signers_of(both, trusted_of(one, other))} == {"owner 0", "owner 1"}
    for envelope, trusted, reason in (
        (both, trusted_of(one), Reason.UNTRUSTED_KEY),
        (read_envelope(sign(b"{}", [])), trusted_of(one), Reason.UNSIGNED),
        (Envelope(b"{ }", PAYLOAD_TYPE, both.signatures), trusted_of(one, other), Reason.BAD_SIGNATURE),
        (Envelope(b"{}", "text/plain", both.signatures), trusted_of(one, other), Reason.BAD_SIGNATURE),
    ):
        with pytest.raises(GateRefusal) as refused:
            signers_of(envelope, trusted)
        assert refused.value.reason == reason


def test_a_signature_under_anothers_id_is_bad() -> None:
    one, other = signer_of("one"), signer_of("other")
    envelope = json.loads(sign(b"{}", [one]))
    envelope["signatures"][0]["keyid"] = other.public_key.keyid
    with pytest.raises(GateRefusal) as refused:
        signers_of(
            read_envelope(json.dumps(envelope, sort_keys=True, separators=(",", ":")).encode()), trusted_of(other)
        )
    assert refused.value.reason == Reason.BAD_SIGNATURE


@given(st.data())
def test_no_byte_of_an_envelope_can_change(data: st.DataObject) -> None:
    signer = signer_of("auditor")
    honest = sign(b'{"a":1}', [signer])
    place = data.draw(st.integers(0, len(honest) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != honest[place]))
    with pytest.raises((EvidenceError, GateRefusal)):
        signers_of(read_envelope(honest[:place] + bytes([byte]) + honest[place + 1 :]), trusted_of(signer))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda each: each.pop("payloadType"), "'payloadType' is missing"),
        (lambda each: each.update(extra=1), "'extra' is unknown"),
        (lambda each: each.update(payloadType="text/plain"), "payloadType"),
        (lambda each: each.update(payload=each["payload"].rstrip("=")), "base64"),
        (lambda each: each.update(payload="e30\n="), "base64"),
        (lambda each: each.update(payload="e31="), "base64"),  # the same bytes as e30=, with a stray bit
        (lambda each: each.update(payload=7), "text"),
        (lambda each: each["signatures"].append(dict(each["signatures"][0])), "signed twice"),
        (lambda each: each["signatures"][0].pop("sig"), "'sig' is missing"),
        (lambda each: each.update(signatures={}), "a list"),
    ],
)
def test_a_malformed_envelope_is_refused_by_name(change, says: str) -> None:
    envelope = json.loads(sign(b"{}", [signer_of("auditor")]))
    change(envelope)
    with pytest.raises(EvidenceError, match=says):
        read_envelope(encode(envelope))


def test_an_endless_envelope_is_not_parsed() -> None:
    with pytest.raises(EvidenceError, match="no statement is longer"):
        read_envelope(b"[" * (LIMIT + 1))
