#!/usr/bin/env bash
# A valid DSSE signature by the very key that is given is not found, because the key has another name by default.
#
# Versions:  securesystemslib 1.6.0, cryptography as it comes with it, Python 3.11.
# Behaviour: DSSE says that key ids are hints. Envelope.verify skips every signature whose id is not the key's own, and
#            SSlibKey.from_crypto gives a key an id that no other tool computes. A signature made under the common id, the
#            SHA-256 of the public key's DER, then ends in "Found: 0, Expected 1" with the right public key at hand.
# Way out:   SSlibKey.from_crypto(key, keyid=...) with the id that stands in the envelope.
#
# Seen:      the id in the envelope: verified
#            the default id: Accepted signatures do not match threshold, Found: 0, Expected 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check 'securesystemslib[crypto]==1.6.0'
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import CryptoSigner, SSlibKey

private = Ed25519PrivateKey.generate()
public = private.public_key()
der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
named = SSlibKey.from_crypto(public, keyid=hashlib.sha256(der).hexdigest())
envelope = Envelope(b"{}", "application/vnd.in-toto+json", {})
envelope.sign(CryptoSigner(private, named))
for shown, key in (("the id in the envelope", named), ("the default id", SSlibKey.from_crypto(public))):
    try:
        envelope.verify([key], 1)
        said = "verified"
    except VerificationError as error:
        said = str(error)
    print(f"{shown}: {said}")
PYTHON
diff seen - <<'SEEN'
the id in the envelope: verified
the default id: Accepted signatures do not match threshold, Found: 0, Expected 1
SEEN
