"""Checks of the trail: the keys of this machine, whom they are trusted by, and its journal."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from attrail_explainers.errors import AttrailError
from attrail_flows.doctor.result import DoctorResult, ok, warning, wrong
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.location import shown, store_at
from attrail_mlflow.signing.keys import KEY_VARIABLE, signer_from_environment
from attrail_mlflow.signing.trusted_keys import TrustedKeys, read_trusted_keys
from attrail_mlflow.trail.inspection import inspect_store

TRUSTED, JOURNAL = "ATTRAIL_TRUSTED_KEYS", "ATTRAIL_JOURNAL"
NEEDED = "verdict"  # what a machine that audits must be allowed to sign


def signing_key(environment: Mapping[str, str], there: Mapping[str, tuple[str, ...]]) -> Iterator[DoctorResult]:
    """Whether statements can be signed here, by a key that others cannot read and that the gate trusts.

    ``there`` are the keys the gate trusts, with what each may sign; empty where there is no gate.
    """
    try:
        signer = signer_from_environment(environment)
    except AttrailError as error:
        yield wrong(str(error), f"correct {KEY_VARIABLE}")
        return
    if signer is None:
        yield warning(
            "statements are not signed here", f"set {KEY_VARIABLE} where audits run; attrail keys new makes one"
        )
        return
    key = str(signer.public_key.keyid)
    if there and NEEDED not in there.get(key, ()):
        yield wrong(
            f"the gate does not trust {key} for a {NEEDED}", "add it to gate.toml as attrail keys show prints it"
        )
    else:
        yield ok(f"signs as {key}" + (", which the gate trusts" if there else ""))


def trusted_keys(environment: Mapping[str, str]) -> Iterator[DoctorResult]:
    """Whether the file of trusted keys can be read and trusts anybody."""
    path = environment.get(TRUSTED)
    if not path:
        yield warning(
            f"{TRUSTED} names no file", "without one, the journal's signatures cannot be told from a forger's"
        )
        return
    try:
        keys = list(read_trusted_keys(Path(path)))
    except AttrailError as error:
        yield wrong(str(error), f"correct {TRUSTED} or the file")
        return
    if keys:
        yield ok("trusted: " + "; ".join(f"{each.owner} for {', '.join(sorted(each.may))}" for each in keys))
    else:
        yield wrong(f"{path} trusts no [[key]]", "add one as attrail keys show prints it")


def journal(environment: Mapping[str, str]) -> Iterator[DoctorResult]:
    """Whether the journal is whole, and written by trusted keys where they are known."""
    place = environment.get(JOURNAL)
    if not place:
        yield warning(
            f"{JOURNAL} names no journal", "set it where audits run, or nothing shows later that none was left out"
        )
        return
    try:
        store = store_at(place)
        if isinstance(store, JournalFile) and not store.path.exists() and not store.head_path.exists():
            yield ok(f"journal {shown(place)}: none yet")
            return
        seen = inspect_store(store, _trusted(environment))
    except AttrailError as error:
        yield wrong(f"journal {shown(place)}: {error}", "keep the file as it is and find out who changed it")
        return
    yield ok(f"journal {shown(place)}: {seen.facts[0]}")


def _trusted(environment: Mapping[str, str]) -> TrustedKeys | None:
    path = environment.get(TRUSTED)
    return read_trusted_keys(Path(path)) if path else None
