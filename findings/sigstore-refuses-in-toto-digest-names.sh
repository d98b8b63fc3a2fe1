#!/usr/bin/env bash
# sigstore calls an in-toto statement "malformed" as soon as one subject has a digest that in-toto names and SHA-2 is not.
#
# Versions:  sigstore 4.0.0, Python 3.11.
# Behaviour: in-toto's digest sets may hold gitCommit, dirHash or names of one's own beside sha256. sigstore.dsse.Statement
#            reads the SHA-2 and SHA-3 names alone; with another one beside a good sha256 the whole statement is refused,
#            and the error does not say why. A producer who adds a digest for its own tools shuts out this reader.
# Way out:   sha256 alone in the subjects, everything else in the predicate.
#
# Seen:      sha256: read
#            gitCommit, sha256: malformed in-toto statement
#            dirHash: malformed in-toto statement
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check sigstore==4.0.0
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import json

from sigstore.dsse import Error, Statement

for digests in ({"sha256": "0" * 64}, {"sha256": "0" * 64, "gitCommit": "0" * 40}, {"dirHash": "0" * 64}):
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": digests}],
        "predicateType": "https://example.com/audit/1",
        "predicate": {},
    }
    try:
        Statement(json.dumps(statement).encode())
        said = "read"
    except Error as error:
        said = str(error)
    print(f"{', '.join(sorted(digests))}: {said}")
PYTHON
diff seen - <<'SEEN'
sha256: read
gitCommit, sha256: malformed in-toto statement
dirHash: malformed in-toto statement
SEEN
