"""Signing keys: made once, readable by their owner only, trusted by id."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from attrail_explainers.errors import ConfigError
from attrail_mlflow.signing.keys import (
    key_id,
    new_key,
    public_pem,
    read_public,
    read_signer,
    signer_from_environment,
    signer_pem,
)
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.signing.trusted_keys import read_trusted_keys

ENTRY = '[[key]]\nid = "{id}"\nfile = "audit.pub"\nmay = ["verdict", "journal"]\nowner = "nightly audits"\n'


@pytest.fixture
def key(tmp_path: Path) -> Path:
    new_key(tmp_path / "audit")
    return tmp_path / "audit"


def test_the_private_half_is_its_owners_alone(key: Path) -> None:
    assert key.stat().st_mode & 0o777 == 0o600
    assert b"PRIVATE" not in key.with_name("audit.pub").read_bytes()


def test_the_id_is_the_digest_of_the_public_key_as_der(key: Path) -> None:
    pem = key.with_name("audit.pub").read_bytes()
    der = load_pem_public_key(pem).public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    public = read_public(pem, "here")
    assert key_id(public) == "sha256:" + hashlib.sha256(der).hexdigest() == read_signer(key).public_key.keyid
    assert public_pem(public) == pem == signer_pem(read_signer(key))


@pytest.mark.parametrize("name", ["audit", "audit.pub"])
def test_a_key_is_never_overwritten(key: Path, name: str) -> None:
    kept = {path.name: path.read_bytes() for path in key.parent.iterdir()}
    (key.parent / ("audit" if name == "audit.pub" else "audit.pub")).unlink()
    with pytest.raises(ConfigError, match="never overwritten"):
        new_key(key)
    assert {path.name: path.read_bytes() for path in key.parent.iterdir()} == {name: kept[name]}


def test_a_passphrase_is_needed_where_one_was_given(tmp_path: Path) -> None:
    new_key(tmp_path / "locked", b"open sesame")
    (tmp_path / "phrase").write_text("open sesame\n")
    environment = {"ATTRAIL_SIGNING_KEY": str(tmp_path / "locked")}
    for wrong in ({}, {"ATTRAIL_SIGNING_PASSPHRASE": "open barley"}):
        with pytest.raises(ConfigError, match="cannot be read"):
            signer_from_environment(environment | wrong)
    for right in (
        {"ATTRAIL_SIGNING_PASSPHRASE": "open sesame"},
        {"ATTRAIL_SIGNING_PASSPHRASE_FILE": str(tmp_path / "phrase")},
    ):
        assert signer_from_environment(environment | right) is not None
    assert signer_from_environment({}) is None


def test_a_key_that_everybody_can_read_is_refused(key: Path) -> None:
    key.chmod(0o604)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_signer(key)


def test_only_ed25519_keys_are_taken(tmp_path: Path) -> None:
    other = generate_private_key(SECP256R1())
    path = tmp_path / "ec"
    path.write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="no Ed25519 key"):
        read_signer(path)
    with pytest.raises(ConfigError, match="no Ed25519 public key"):
        read_public(other.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), "here")


def test_trusted_keys_are_read_from_a_policy_file(key: Path) -> None:
    policy = key.parent / "gate.toml"
    id_ = read_signer(key).public_key.keyid
    policy.write_text("[gate]\naliases = ['champion']\n" + ENTRY.format(id=id_))
    (found,) = read_trusted_keys(policy)
    assert (found.id, found.owner, found.may) == (id_, "nightly audits", {Kind.VERDICT, Kind.JOURNAL})


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("{id}", "sha256:" + "0" * 64, "not sha256:0000"),
        ("{id}", "deadbeef", "64 hexadecimal digits"),
        ('"verdict"', '"everything"', "unknown kind of statement"),
        ("audit.pub", "gone.pub", "cannot be read"),
        ("owner", "who", "'owner' is missing"),
        ("[[key]]", "[[key]]\nuntil = 2027", "'until' is unknown"),
        ("[[key]]", "[key]", "a list"),
        ("[[key]]", "[[key", "cannot be read"),
    ],
)
def test_a_wrong_entry_is_named(key: Path, old: str, new: str, says: str) -> None:
    policy = key.parent / "gate.toml"
    policy.write_text(ENTRY.replace(old, new).replace("{id}", str(read_signer(key).public_key.keyid)))
    with pytest.raises(ConfigError, match=says):
        read_trusted_keys(policy)


def test_verification_loads_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; import attrail_mlflow.statements.verification, attrail_mlflow.trail.inspection\n"
        "import attrail_mlflow.journal.table\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules} & "
        "{'torch', 'mlflow', 'pandas', 'prefect', 'great_expectations'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_missing_folder_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    new_key(tmp_path / "keys" / "audit")
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
