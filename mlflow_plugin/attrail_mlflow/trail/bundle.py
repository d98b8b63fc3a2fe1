"""Bundle: one audit's evidence in one file that needs no server to be checked.

::

    bundle.json          seal: which files stand beside the run's, signed by who exported them
    control_map.json     which artifact answers which provision
    journal.jsonl        the journal's records from the first to the last that names the run or its model (optional)
    keys/DIGITS.pem      public keys, named by their id
    attrail/             the run's own files, as in MLflow, with manifest.json and statement.json

The container is ``archive``'s. Format ``v1`` of the seal names all of this; ``tests/golden`` keeps a bundle of every
format, and they all verify.
"""

import shutil
import tempfile
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from attrail_explainers.errors import ConfigError, EvidenceError
from attrail_explainers.files.plain_file import read_plain
from attrail_mlflow.journal.hash_chain import JournalRecord
from attrail_mlflow.registry.folder_digest import file_digest
from attrail_mlflow.signing.envelope import read_envelope
from attrail_mlflow.signing.keys import signer_pem
from attrail_mlflow.signing.trusted_keys import TrustedKeys, embedded
from attrail_mlflow.statements.baseline import Baseline
from attrail_mlflow.statements.bundle_seal import Seal
from attrail_mlflow.statements.predicate import bare
from attrail_mlflow.statements.statement import statement_from
from attrail_mlflow.statements.verdict import VerdictStatement
from attrail_mlflow.trail.archive import pack
from attrail_mlflow.trail.attestation import Trail
from attrail_mlflow.trail.control_map import CONTROL_MAP, control_map_for
from attrail_mlflow.trail.manifest import STATEMENT_FILE

SEAL = "bundle.json"
JOURNAL = "journal.jsonl"
KEYS = "keys"
RUN = "attrail"

Attested = VerdictStatement | Baseline  # the statements that a run leaves


def write_bundle(
    run_folder: Path,
    out: Path,
    trail: Trail,
    trusted: TrustedKeys,
    journal: Iterable[JournalRecord] = (),
    time: datetime | None = None,
) -> None:
    """Write the bundle of a run's files to ``out``, with the trusted public keys and what the journal says of the run.

    The same files, keys, records and ``time`` give the same bytes. Raises ConfigError when ``out`` exists, and
    EvidenceError when the folder holds no audit with a statement.
    """
    if out.exists():
        raise ConfigError(f"{out} exists already: choose another name, evidence is not overwritten")
    statement = attested_in(run_folder)
    with tempfile.TemporaryDirectory(prefix="attrail-") as scratch:
        folder = Path(scratch)
        shutil.copytree(run_folder, folder / RUN)
        _write_keys(folder / KEYS, trail, trusted)
        excerpt = excerpt_of(list(journal), statement)
        if excerpt:
            (folder / JOURNAL).write_bytes(b"".join(record.line + b"\n" for record in excerpt))
        (folder / CONTROL_MAP).write_text(control_map_for(_names(folder)), encoding="utf-8")
        seal = Seal((time or datetime.now(UTC)).replace(microsecond=0), statement.run_id, sealed_files(folder))
        (folder / SEAL).write_bytes(trail.signed(seal))
        _write(folder, out)


def attested_in(run_folder: Path) -> Attested:
    """The statement in a run's folder, its signature not checked; EvidenceError when there is none."""
    path = run_folder / STATEMENT_FILE
    if not path.is_file():
        raise EvidenceError(f"{STATEMENT_FILE} is missing: the run was not audited by a version of attrail that signs")
    statement = statement_from(read_envelope(read_plain(path)).payload)
    if not isinstance(statement, VerdictStatement | Baseline):
        raise EvidenceError(f"{STATEMENT_FILE} is a {statement.KIND} statement, a verdict or a baseline was expected")
    return statement


def sealed_files(folder: Path) -> dict[str, str]:
    """Digests of the files a seal covers: all but itself and those that the run's own manifest lists."""
    own = (name for name in _names(folder) if name == f"{RUN}/{STATEMENT_FILE}" or not name.startswith(f"{RUN}/"))
    return {name: file_digest(folder / name) for name in own if name != SEAL}


def excerpt_of(records: Sequence[JournalRecord], statement: Attested) -> Sequence[JournalRecord]:
    """Consecutive records, from the first to the last about the run or its model version; none if there is none."""
    places = [place for place, record in enumerate(records) if _about(record, statement)]
    return records[places[0] : places[-1] + 1] if places else ()


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]


def _about(record: JournalRecord, statement: Attested) -> bool:
    model = {"name": statement.model.name, "version": statement.model.version}
    return record.body.get("run_id") == statement.run_id or record.body.get("model") == model


def _write_keys(folder: Path, trail: Trail, trusted: TrustedKeys) -> None:
    own = [embedded(signer_pem(trail.signer), "the exporter")] if trail.signer else []
    folder.mkdir()
    for key in (*trusted, *own):
        (folder / f"{bare(key.id)}.pem").write_bytes(key.pem)


def _write(folder: Path, out: Path) -> None:
    """Write the container whole or not at all."""
    files = {name: folder / name for name in _names(folder)}
    fresh = out.with_name(out.name + ".new")
    try:
        with fresh.open("wb") as target:
            pack(files, target)
        fresh.replace(out)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error}") from error
