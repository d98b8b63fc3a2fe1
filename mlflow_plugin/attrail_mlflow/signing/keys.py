"""Ed25519 signing keys: made by ``attrail keys new``, kept as PEM files, named by the digest of their public half.

A key's id is the SHA-256 of its public key as DER SubjectPublicKeyInfo (RFC 5280, RFC 8410). The private key never
leaves its file: it is in no artifact, tag or record.
"""

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)
from securesystemslib.signer import CryptoSigner, SSlibKey

from attrail_explainers.digest import digest_of_bytes
from attrail_explainers.errors import ConfigError
from attrail_explainers.files.plain_file import read_plain

KEY_VARIABLE = "ATTRAIL_SIGNING_KEY"
PASSPHRASE_VARIABLE = "ATTRAIL_SIGNING_PASSPHRASE"  # noqa: S105 - the variable's name, no secret
PASSPHRASE_FILE_VARIABLE = "ATTRAIL_SIGNING_PASSPHRASE_FILE"  # noqa: S105 - the same

VARIABLES = (KEY_VARIABLE, PASSPHRASE_VARIABLE, PASSPHRASE_FILE_VARIABLE)

_hidden: dict[str, str] = {}
_hiding = 0  # blocks that want the variables hidden: several flows may run in one process
_lock = threading.Lock()


def new_key(path: Path, passphrase: bytes | None = None) -> str:
    """Make a key: the private half at ``path`` (mode 0600), the public half beside it with ``.pub``; return its id.

    Their folder is made if it is missing, for nobody else to look into. Raises ConfigError when one of the files
    exists: a key is never overwritten.
    """
    if not path.name:
        raise ConfigError(f"{str(path)!r} names no file: give the key a name, such as keys/audit")
    private = Ed25519PrivateKey.generate()
    public = path.with_name(path.name + ".pub")
    if public.exists():
        raise ConfigError(f"{public} exists already; a key is never overwritten, choose another name")
    encryption = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    _write_new(path, private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption), 0o600)
    _write_new(public, public_pem(private.public_key()), 0o644)
    return key_id(private.public_key())


def read_signer(path: Path, passphrase: bytes | None = None) -> CryptoSigner:
    """The signer of a private key file.

    Raises ConfigError when the file cannot be read, others may read it, the passphrase is wrong, or it holds no
    Ed25519 key.
    """
    try:
        if path.stat().st_mode & 0o007:
            raise ConfigError(f"signing key {path} can be read by everybody on this machine: chmod 600 it")
        private = load_pem_private_key(read_plain(path), passphrase)
    except (OSError, TypeError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"signing key {path} cannot be read: {error}") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(f"signing key {path} is no Ed25519 key: make one with attrail keys new")
    return CryptoSigner(private, verifier_of(private.public_key()))


def environment_with_key() -> Mapping[str, str]:
    """The environment of this process, with what ``key_hidden`` keeps from others."""
    with _lock:
        return {**_hidden, **os.environ}


@contextlib.contextmanager
def key_hidden() -> Iterator[None]:
    """For the time of a block, no process that starts is told where the signing key is, or its passphrase.

    Model files are read by such processes. It is no wall against code that knows where to look: a process of the same
    user can read the same files.
    """
    global _hiding  # noqa: PLW0603 - environments are the process's
    with _lock:
        _hiding += 1
        _hidden.update({name: os.environ.pop(name) for name in VARIABLES if name in os.environ})
    try:
        yield
    finally:
        with _lock:
            _hiding -= 1
            if not _hiding:
                os.environ.update(_hidden)
                _hidden.clear()


def signs(environment: Mapping[str, str] | None = None) -> bool:
    """Whether a signing key is configured for this process."""
    return bool((environment_with_key() if environment is None else environment).get(KEY_VARIABLE))


def signer_from_environment(environment: Mapping[str, str] | None = None) -> CryptoSigner | None:
    """The signer whose key file ``ATTRAIL_SIGNING_KEY`` names, None when it names none; see ``read_signer``."""
    environment = environment_with_key() if environment is None else environment
    path = environment.get(KEY_VARIABLE)
    return read_signer(Path(path), passphrase_from_environment(environment)) if path else None


def passphrase_from_environment(environment: Mapping[str, str] = os.environ) -> bytes | None:
    """The key's passphrase, from ``ATTRAIL_SIGNING_PASSPHRASE`` or the first line of the file that ``..._FILE`` names.

    Raises ConfigError when that file cannot be read.
    """
    if path := environment.get(PASSPHRASE_FILE_VARIABLE):
        try:
            return read_plain(Path(path)).splitlines()[0]
        except (OSError, IndexError) as error:
            raise ConfigError(f"{PASSPHRASE_FILE_VARIABLE}={path}: no passphrase can be read there") from error
    return environment.get(PASSPHRASE_VARIABLE, "").encode() or None


def key_id(public: Ed25519PublicKey) -> str:
    """The key's id: SHA-256 of the DER SubjectPublicKeyInfo."""
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return digest_of_bytes(spki)


def public_pem(public: Ed25519PublicKey) -> bytes:
    """The public key as PEM SubjectPublicKeyInfo."""
    return public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def signer_pem(signer: CryptoSigner) -> bytes:
    """The public half of a signer's key as PEM."""
    return public_pem(Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer.public_key.keyval["public"])))


def read_public(pem: bytes, where: str) -> Ed25519PublicKey:
    """The Ed25519 public key of a PEM text; ConfigError names ``where`` it stands when there is none."""
    try:
        public = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{where} holds no PEM public key: {error}") from error
    if not isinstance(public, Ed25519PublicKey):
        raise ConfigError(f"{where} holds no Ed25519 public key")
    return public


def verifier_of(public: Ed25519PublicKey) -> SSlibKey:
    """The key as in-toto's library takes it, under attrail's id."""
    return SSlibKey.from_crypto(public, keyid=key_id(public))


def _write_new(path: Path, content: bytes, mode: int) -> None:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
    except FileExistsError as error:
        raise ConfigError(f"{path} exists already; a key is never overwritten, choose another name") from error
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error}") from error
