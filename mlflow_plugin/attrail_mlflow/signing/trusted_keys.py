"""The public keys that are trusted, and what each of them may sign: read from a policy file, never from a registry.

::

    [[key]]
    id = "sha256:3c1f..."              # pins the key: another file under the same name is refused
    file = "keys/audit.pub"            # relative to the policy file
    may = ["verdict", "baseline"]      # of verdict, baseline, waiver, bundle, journal
    owner = "nightly audits"
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from securesystemslib.signer import SSlibKey

from attrail_explainers.errors import ConfigError, EvidenceError, UnknownNameError
from attrail_explainers.files.plain_file import read_plain, read_toml
from attrail_mlflow.signing.fields import Reader, digest, listed, text, with_fields
from attrail_mlflow.signing.keys import key_id, read_public, verifier_of
from attrail_mlflow.signing.kind import Kind


@dataclass(frozen=True)
class TrustedKey:
    """A public key as PEM, the kinds of statement it may sign, and whose it is."""

    pem: bytes
    may: frozenset[Kind]
    owner: str
    verifier: SSlibKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "verifier", verifier_of(read_public(self.pem, f"the key of {self.owner}")))

    @property
    def id(self) -> str:
        """The key's id, ``keys.key_id``."""
        return str(self.verifier.keyid)


@dataclass(frozen=True)
class TrustedKeys:
    """Trusted keys by id; without any, no statement is trusted."""

    keys: Mapping[str, TrustedKey] = field(default_factory=dict)

    @classmethod
    def of(cls, keys: Iterable[TrustedKey]) -> "TrustedKeys":
        """The keys, found by their ids."""
        return cls({each.id: each for each in keys})

    @classmethod
    def from_tables(cls, tables: Any, folder: Path) -> "TrustedKeys":
        """The keys of ``[[key]]`` tables, their files relative to ``folder``.

        Raises ConfigError naming the first key that is wrong: unknown entry, unreadable file, another key in the file
        than ``id`` says, or a key twice, of which either entry could be meant.
        """
        try:
            entries = listed(_ENTRY)(tables, "key")
        except EvidenceError as error:
            raise ConfigError(str(error)) from error
        found = cls.of(_trusted(entry, folder) for entry in entries)
        ids = [entry["id"] for entry in entries]
        for id_ in ids:
            if ids.count(id_) > 1:
                raise ConfigError(f"the key {id_} stands there {ids.count(id_)} times: give it one entry")
        return found

    def __iter__(self) -> Iterator[TrustedKey]:
        return iter(self.keys.values())

    def get(self, id_: str) -> TrustedKey | None:
        """The key of an id, None when it is not trusted."""
        return self.keys.get(id_)

    def require(self, id_: str, kind: Kind) -> None:
        """Raise ConfigError, saying what to do, unless a key is trusted to sign this kind."""
        key = self.get(id_)
        if key is None or kind not in key.may:
            found = "does not trust it" if key is None else f"trusts it for {', '.join(sorted(key.may))} alone"
            raise ConfigError(
                f"the signing key {id_} may not sign a {kind}: the policy {found}; set ATTRAIL_SIGNING_KEY to a key "
                f"that may, or give the policy the entry that attrail keys show KEY.pub --may {kind} prints"
            )


def read_trusted_keys(path: Path) -> TrustedKeys:
    """The trusted keys of a policy file's ``[[key]]`` tables; its other tables are not looked at."""
    try:
        tables = read_toml(path).get("key", [])
    except (OSError, ValueError) as error:
        raise ConfigError(f"trusted keys {path} cannot be read: {error}") from error
    try:
        return TrustedKeys.from_tables(tables, path.resolve().parent)
    except ConfigError as error:
        raise ConfigError(f"trusted keys {path}: {error}") from error


def embedded(pem: bytes, where: str) -> TrustedKey:
    """A key that evidence itself carries: enough to see that nothing changed since it was signed, not who signed."""
    return TrustedKey(pem, frozenset(Kind), where)


def _trusted(entry: Mapping[str, Any], folder: Path) -> TrustedKey:
    path = folder / entry["file"]
    try:
        pem = read_plain(path)
    except OSError as error:
        raise ConfigError(f"key {entry['owner']!r}: {path} cannot be read: {error}") from error
    found = key_id(read_public(pem, str(path)))
    if found != entry["id"]:
        raise ConfigError(f"key {entry['owner']!r}: {path} holds the key {found}, not {entry['id']}")
    return TrustedKey(pem, frozenset(entry["may"]), entry["owner"])


def _kind(value: Any, where: str) -> Kind:
    if text(value, where) not in set(Kind):
        raise UnknownNameError.of(f"kind of statement in {where}", value, Kind)
    return Kind(value)


_ENTRY: Reader[dict[str, Any]] = with_fields({"id": digest, "file": text, "may": listed(_kind), "owner": text}, dict)
