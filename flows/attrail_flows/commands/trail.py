"""Commands of the trail: make keys, export an audit's evidence, verify it, begin a journal anew.

None of them needs torch; only a run id needs MLflow. Exit status: 0 right, 1 something is wrong with the evidence,
2 usage.
"""

import contextlib
import json
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click

from attrail_explainers.errors import ConfigError, EvidenceError, GateRefusal
from attrail_flows.console.options import TRACKING

WRONG = 1
RUN_ID = re.compile(r"[0-9a-f]{32}")

FILE = click.Path(dir_okay=False, path_type=Path)
TRUST = click.option(
    "--trust", type=FILE, envvar="ATTRAIL_TRUSTED_KEYS", help="Policy file whose [[key]] tables name the trusted keys."
)
OWNER = click.option("--owner", default="whose key this is", help="Whose key it is, for the entry that is printed.")
MAY = click.option(
    "--may",
    multiple=True,
    type=click.Choice(["verdict", "baseline", "waiver", "bundle", "journal"]),
    default=("verdict", "baseline", "bundle", "journal"),
    help="What it may sign, for the entry that is printed; may be given again. All but waivers when left out.",
)


@click.group()
def keys() -> None:
    """Make and show signing keys."""


@keys.command("new")
@click.argument("path", type=FILE)
@OWNER
@MAY
def new(path: Path, owner: str, may: tuple[str, ...]) -> None:
    """Make an Ed25519 key: PATH is private, PATH.pub public.

    With ATTRAIL_SIGNING_PASSPHRASE or ATTRAIL_SIGNING_PASSPHRASE_FILE the private key is encrypted. Point
    ATTRAIL_SIGNING_KEY at it where audits run, and keep it out of the registry and of the repository.
    """
    from attrail_mlflow.signing.keys import new_key, passphrase_from_environment

    new_key(path, passphrase_from_environment())
    _show(path.with_name(path.name + ".pub"), owner, may)


@keys.command("show")
@click.argument("path", type=FILE)
@OWNER
@MAY
def show(path: Path, owner: str, may: tuple[str, ...]) -> None:
    """Show a public key's id, as an entry for a policy file here, in the folder where you are."""
    _show(path, owner, may)


@click.command()
@click.argument("run_id")
@click.option("--out", type=FILE, required=True, help="The bundle to write; it must not exist.")
@click.option("--journal", envvar="ATTRAIL_JOURNAL", help="Journal, file or database, with records of the run.")
@TRUST
@TRACKING
def export(run_id: str, out: Path, journal: str | None, trust: Path | None, tracking_uri: str | None) -> None:
    """Write one audit's evidence to one file that `attrail verify` checks without a server.

    The bundle is sealed with the key that ATTRAIL_SIGNING_KEY names; where keys are trusted by name (--trust), it must
    be one that may sign bundles.
    """
    from attrail_mlflow.journal.journal import read_journal
    from attrail_mlflow.journal.location import kept_store_at
    from attrail_mlflow.registry.registry import Registry
    from attrail_mlflow.runs.lookup import fetch_run
    from attrail_mlflow.signing.kind import Kind
    from attrail_mlflow.signing.trusted_keys import TrustedKeys, read_trusted_keys
    from attrail_mlflow.trail.attestation import Trail
    from attrail_mlflow.trail.bundle import write_bundle
    from attrail_mlflow.trail.inspection import inspect_run

    trusted = read_trusted_keys(trust) if trust else None
    trail = Trail.from_environment()
    if trusted is not None and trail.signer is not None:
        trusted.require(str(trail.signer.public_key.keyid), Kind.BUNDLE)
    with _judged(), tempfile.TemporaryDirectory(prefix="attrail-") as scratch:
        folder = fetch_run(Registry(tracking_uri), _run_id(run_id), Path(scratch))
        inspect_run(folder, trusted)
        records = read_journal(kept_store_at(journal), trusted) if journal else ()
        write_bundle(folder, out, trail, trusted or TrustedKeys(), records)
    click.echo(f"written: {out}" + ("" if trail.signer else " (not sealed: ATTRAIL_SIGNING_KEY names no key)"))


@click.command()
@click.argument("what")
@click.option("--allow-unsigned", is_flag=True, help="Accept evidence that nobody signed, if it is whole.")
@TRUST
@TRACKING
def verify(what: str, allow_unsigned: bool, trust: Path | None, tracking_uri: str | None) -> None:
    """Check a bundle, a journal or an audit's run, and name the first thing that is wrong.

    WHAT is a file, a folder with a run's files, the address of a database with a journal, or an MLflow run id. Exit
    status: 0 right, 1 wrong, 2 usage.
    """
    from attrail_mlflow.journal.location import is_database, kept_store_at
    from attrail_mlflow.signing.trusted_keys import read_trusted_keys
    from attrail_mlflow.trail.inspection import inspect_evidence, inspect_store

    trusted = read_trusted_keys(trust) if trust else None
    with _judged(), tempfile.TemporaryDirectory(prefix="attrail-") as scratch:
        if is_database(what):
            found = inspect_store(kept_store_at(what), trusted)
        else:
            found = inspect_evidence(_evidence(what, tracking_uri, Path(scratch)), trusted)
        for line in found.facts:
            click.echo(f"ok       {line}")
        for line in found.cautions:
            click.echo(f"caution  {line}")
        if not (found.signed or allow_unsigned):
            raise EvidenceError("nobody signed all of this: --allow-unsigned accepts it")
    click.echo("nothing is wrong")


@click.group()
def journal() -> None:
    """Look after a journal."""


@journal.command("restart")
@click.argument("path", type=FILE)
@click.option("--reason", required=True, help="Why the old journal is given up; it is recorded.")
def restart(path: Path, reason: str) -> None:
    """Move a damaged journal aside and begin a new one whose second record names the old one and its digest."""
    from attrail_mlflow.journal.file import JournalFile
    from attrail_mlflow.journal.hash_chain import Event
    from attrail_mlflow.journal.journal import Journal, this_actor
    from attrail_mlflow.signing.keys import signer_from_environment

    signer, store = signer_from_environment(), JournalFile(path)
    with store.begun_anew() as (fresh, retired):
        Journal(fresh, signer).append(Event.RESTART, this_actor(), {**retired, "reason": reason})
    click.echo(f"{retired['file']} is kept; {path} begins anew")


@contextlib.contextmanager
def _judged() -> Iterator[None]:
    """Evidence that is wrong ends the command with status 1 and one sentence."""
    try:
        yield
    except (EvidenceError, GateRefusal) as error:
        click.echo(f"WRONG    {error}", err=True)
        sys.exit(WRONG)


def _evidence(what: str, tracking_uri: str | None, scratch: Path) -> Path:
    """Where the evidence lies: what was given, or a run's files fetched from MLflow."""
    if Path(what).exists():
        return Path(what)
    from attrail_mlflow.registry.registry import Registry
    from attrail_mlflow.runs.lookup import fetch_run

    if RUN_ID.fullmatch(what) is None:
        raise ConfigError(f"{what!r} is no file and no MLflow run id (32 hexadecimal digits)")
    return fetch_run(Registry(tracking_uri), what, scratch)


def _run_id(text: str) -> str:
    if RUN_ID.fullmatch(text) is None:
        raise ConfigError(f"{text!r} is no MLflow run id: 32 hexadecimal digits were expected")
    return text


def _show(path: Path, owner: str, may: tuple[str, ...]) -> None:
    from attrail_explainers.files.plain_file import read_plain
    from attrail_mlflow.signing.keys import key_id, read_public

    try:
        public = read_public(read_plain(path), str(path))
    except OSError as error:
        raise ConfigError(f"public key {path} cannot be read: {error}") from error
    facts = {"id": key_id(public), "file": path.as_posix(), "may": list(may), "owner": owner}
    click.echo("[[key]]")
    for name, value in facts.items():
        click.echo(f"{name} = {json.dumps(value, ensure_ascii=False)}")  # such JSON is TOML as well
