"""The gate's policy: what is protected, whose signatures count, and for how long. A TOML file on the server.

::

    aliases = ["champion", "production"]   # protected in every spelling; given only as written here
    stages = ["Production"]                # MLflow's older way to promote; Staging or Production
    max_age_days = 30                      # a verdict or baseline older than this is stale; optional
    policies = ["sha256:..."]              # digests of the drift policies that count; optional, else any
    slices = ["sha256:..."]                # digests of slices that the evidence must cover; optional
    auditors = ["nightly"]                 # users who may write attrail.* tags; optional, else everybody
    actor_header = "X-Forwarded-User"      # set by a trusted proxy, where MLflow itself knows no users; optional
    journal_key = "keys/gate"              # private key that signs the gate's journal; optional

    [[key]]                                # as in ``trusted_keys``

``ATTRAIL_GATE_POLICY`` names the file. It counts from the start of a server on, for all servers on one database; a
change takes a restart and is journaled.
"""

import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

from securesystemslib.signer import CryptoSigner

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import ConfigError, EvidenceError, UnknownNameError
from attrail_explainers.files.plain_file import read_toml
from attrail_mlflow.signing.fields import digest, listed, number, text
from attrail_mlflow.signing.keys import passphrase_from_environment, read_signer
from attrail_mlflow.signing.trusted_keys import TrustedKey, TrustedKeys

VARIABLE = "ATTRAIL_GATE_POLICY"
STAGE = "stage/"  # no alias can begin like this: MLflow allows no slash in one
ARCHIVED = "Archived"
STAGES = ("Staging", "Production", ARCHIVED)  # MLflow's, all but "None"
ALIAS = re.compile(r"(?!(?i:latest|v\d+)$)[\w-]{1,255}")  # mlflow.utils.validation
MOST_DAYS = 36_500  # longer than any evidence is of use, and short enough for a date


@dataclass(frozen=True)
class GatePolicy:
    """What the gate protects and whom it trusts. ``max_age`` and ``policies`` None, or an empty set, mean any."""

    trusted: TrustedKeys
    aliases: tuple[str, ...] = ("champion", "production")
    stages: tuple[str, ...] = ("Production",)
    max_age: timedelta | None = None
    policies: frozenset[str] | None = None
    slices: frozenset[str] = frozenset()
    auditors: frozenset[str] = frozenset()
    actor_header: str | None = None
    journal_signer: CryptoSigner | None = field(default=None, repr=False, compare=False)

    def role_of_alias(self, alias: Any) -> str | None:
        """The protected alias that an alias is a spelling of, None when it is none: ``Champion`` is ``champion``."""
        return _same(alias, self.aliases)

    def role_of_stage(self, stage: Any) -> str | None:
        """The role of a protected stage, ``stage/Production``; None when the stage is not protected."""
        found = _same(stage, self.stages)
        return found and STAGE + found

    def document(self) -> dict[str, Any]:
        """The policy as JSON values, keys by their ids: for the journal and for whoever asks the server."""
        return {
            "aliases": sorted(self.aliases),
            "stages": sorted(self.stages),
            "max_age_days": None if self.max_age is None else self.max_age.days,
            "policies": None if self.policies is None else sorted(self.policies),
            "slices": sorted(self.slices),
            "auditors": sorted(self.auditors),
            "actor_header": self.actor_header,
            "keys": [{"id": each.id, "owner": each.owner, "may": sorted(each.may)} for each in self._keys],
            "journal_key": str(self.journal_signer.public_key.keyid) if self.journal_signer else None,
        }

    @cached_property
    def digest(self) -> str:
        """The digest of ``document``: which policy decided."""
        return digest_of(self.document())

    @property
    def _keys(self) -> list[TrustedKey]:
        return sorted(self.trusted, key=lambda each: each.id)


def read_gate_policy(path: Path, environment: Mapping[str, str] = os.environ, *, serving: bool = True) -> GatePolicy:
    """The policy of a file; the key of the gate's journal only for ``serving``, others must not be able to read it.

    Raises ConfigError naming what is wrong: an unreadable file, an unknown or wrong entry, a key that cannot be read,
    no trusted key at all.
    """
    try:
        return _policy(read_toml(path), path.resolve().parent, environment if serving else None)
    except (OSError, ValueError, EvidenceError, ConfigError) as error:
        raise ConfigError(f"gate policy {path}: {error}") from error


def policy_from_environment(environment: Mapping[str, str] = os.environ) -> GatePolicy:
    """The policy of the file that ``ATTRAIL_GATE_POLICY`` names; ConfigError when it names none."""
    path = environment.get(VARIABLE)
    if not path:
        raise ConfigError(f"{VARIABLE} names no file: set it to the gate's policy, a TOML file with its [[key]] tables")
    return read_gate_policy(Path(path), environment)


def _policy(tables: Mapping[str, Any], folder: Path, environment: Mapping[str, str] | None) -> GatePolicy:
    for name in tables:
        if name not in _ENTRIES:
            raise UnknownNameError.of("entry", name, _ENTRIES)
    trusted = TrustedKeys.from_tables(tables.get("key", []), folder)
    if not list(trusted):
        raise ConfigError("it trusts no [[key]], so nothing could ever be promoted; attrail keys new makes one")
    found = {name: reader(tables[name], name) for name, reader in _READERS.items() if name in tables}
    if "journal_key" in tables and environment is not None:
        path = folder / text(tables["journal_key"], "journal_key")
        found["journal_signer"] = read_signer(path, passphrase_from_environment(environment))
    if "max_age_days" in tables:
        found["max_age"] = _days(tables["max_age_days"], "max_age_days")
    policy = GatePolicy(trusted, **found)
    if not policy.aliases and not policy.stages:
        raise ConfigError("it protects neither an alias nor a stage: leave aliases out to protect champion")
    return policy


def _days(value: Any, where: str) -> timedelta:
    days = number(value, where)
    if days > MOST_DAYS:
        raise ConfigError(
            f"{where}: expected at most {MOST_DAYS} days, got {days}; leave it out for evidence of any age"
        )
    return timedelta(days=days)


def _stages(value: Any, where: str) -> tuple[str, ...]:
    found = _names(value, where)
    for name in found:
        if name not in STAGES:
            raise UnknownNameError.of("stage", name, STAGES)
    if ARCHIVED in found:
        raise ConfigError(
            f"{where}: {ARCHIVED} cannot be protected, MLflow itself puts versions there whose place others take; "
            "leave it out"
        )
    return found


def _aliases(value: Any, where: str) -> tuple[str, ...]:
    """Names that a version can have as an alias: another would protect nothing, and nobody would notice."""
    found = _names(value, where)
    for name in found:
        if not ALIAS.fullmatch(name):
            raise ConfigError(
                f"{where}: {name!r} can be no alias: MLflow takes letters, digits, _ and -, but neither latest nor v1"
            )
    return found


def _names(value: Any, where: str) -> tuple[str, ...]:
    found = listed(text)(value, where)
    for name in found:
        if _same(name, found) != name or found.count(name) > 1:
            raise ConfigError(f"{where}: {name!r} and {_same(name, found)!r} are the same name twice")
    return found


def _same(name: Any, known: tuple[str, ...]) -> str | None:
    """The known name that is equal but for case, accents, width and blanks at the ends: some databases equate these."""
    if not isinstance(name, str):
        return None
    return next((each for each in known if _folded(each) == _folded(name)), None)


def _folded(name: str) -> str:
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(each for each in letters if not unicodedata.combining(each)).strip().casefold()


_READERS: Mapping[str, Any] = {
    "aliases": _aliases,
    "stages": _stages,
    "policies": lambda value, where: frozenset(listed(digest)(value, where)),
    "slices": lambda value, where: frozenset(listed(digest)(value, where)),
    "auditors": lambda value, where: frozenset(listed(text)(value, where)),
    "actor_header": text,
}
_ENTRIES = {*_READERS, "key", "journal_key", "max_age_days"}
