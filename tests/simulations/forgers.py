"""Forgers: who changes a bundle or a journal, and puts it together again as attrail would.

The methods ``in_...`` change a place and nothing else; ``with_...`` know the formats, write every digest and hash anew,
and may have a key of their own, but not the trusted one.
"""

import hashlib
import io
import json
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from securesystemslib.dsse import Envelope

from attrail_mlflow.journal.hash_chain import record_of
from attrail_mlflow.journal.journal import RECORD_TYPE
from attrail_mlflow.signing.canonical_json import encode
from attrail_mlflow.signing.envelope import read_envelope, sign
from attrail_mlflow.trail.archive import pack, unpack
from attrail_mlflow.trail.bundle import sealed_files
from attrail_mlflow.trail.manifest import manifest_digest, write_manifest

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("simulations", "mlflow_plugin"))

from changes import (
    Draw,
    alter_field,
    alter_row,
    delete_bytes,
    delete_row,
    delete_tail,
    flip,
    insert_bytes,
    move_bytes,
    repeat_row,
    replace_byte,
    swap_rows,
    truncate,
)
from small_audit import signer_of

IN_BYTES = [flip, replace_byte, truncate, delete_bytes, insert_bytes, move_bytes]
IN_ROWS = [delete_row, repeat_row, swap_rows, delete_tail, alter_row]


# -- a bundle ----------------------------------------------------------------------------------------------------------
class BundleForger:
    """Changes to a bundle: each takes it apart, changes something, and puts it together again as attrail would."""

    def __init__(self, bundle: bytes) -> None:
        self.bundle = bundle

    def in_bytes(self, draw: Draw) -> bytes:
        change = draw.choice(IN_BYTES)
        return change(self.bundle, draw)

    def in_member_bytes(self, draw: Draw) -> bytes:
        return self._with(lambda files: _update(files, draw.choice(sorted(files)), flip, draw))

    def in_rows(self, draw: Draw) -> bytes:
        change = draw.choice(IN_ROWS)
        texts = ["journal.jsonl", "attrail/measurements.csv", "attrail/slices/validation.csv"]
        return self._with(lambda files: _update(files, draw.choice(texts), change, draw))

    def in_field(self, draw: Draw) -> bytes:
        names = [name for name in self._files() if name.endswith(".json")]
        return self._with(lambda files: _field(files, draw.choice(names), draw))

    def in_names(self, draw: Draw) -> bytes:
        def change(files: dict[str, bytes]) -> None:
            one, other = draw.sample(sorted(files), 2)
            kind = draw.randrange(4)
            if kind == 0:
                del files[one]
            elif kind == 1:
                files[f"attrail/{draw.randrange(10**6)}.txt"] = b"added"
            elif kind == 2:
                files[one + "x"] = files.pop(one)
            else:
                files[one], files[other] = files[other], files[one]

        return self._with(change)

    def in_container(self, draw: Draw) -> bytes:
        """Equal files in a container that is not attrail's: order, times, comments, compression."""
        files = self._files()
        names = sorted(files)
        if draw.randrange(2):
            draw.shuffle(names)
        target = io.BytesIO()
        method = draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
        with zipfile.ZipFile(target, "w", method) as archive:
            for name in names:
                archive.writestr(zipfile.ZipInfo(name, (draw.randrange(1981, 2100), 1, 1, 0, 0, 0)), files[name])
            archive.comment = draw.randbytes(draw.randrange(5))
        return target.getvalue()

    def with_altered_statement(self, draw: Draw) -> bytes:
        """A field of the statement or of the seal, in a well-formed envelope; signature old, none or a forger's."""

        def change(folder: Path) -> None:
            path = folder / draw.choice(["attrail/statement.json", "bundle.json"])
            envelope = json.loads(path.read_bytes())
            payload = encode(alter_field(self._payload(folder, path.relative_to(folder).as_posix()), draw))
            forged = json.loads(sign(payload, draw.choice([[], [_forger(draw)]])))
            forged["signatures"] = draw.choice([forged["signatures"], envelope["signatures"]])
            path.write_bytes(encode(forged))

        return self._in_folder(change)

    def with_digests(self, draw: Draw) -> bytes:
        """A file of the run is altered and the manifest made anew."""
        return self._in_folder(lambda folder: self._alter_run(folder, draw))

    def with_digests_and_statement(self, draw: Draw) -> bytes:
        """The same, and the statement's payload names the new manifest; its signature is the old one, or gone."""

        def change(folder: Path) -> None:
            self._alter_run(folder, draw)
            envelope = json.loads((folder / "attrail/statement.json").read_bytes())
            payload = self._payload(folder, "attrail/statement.json")
            payload["predicate"]["manifest_digest"] = manifest_digest(folder / "attrail")
            payload["subject"][1]["digest"]["sha256"] = manifest_digest(folder / "attrail").removeprefix("sha256:")
            unsigned = json.loads(sign(encode(payload), []))
            unsigned["signatures"] = draw.choice([[], envelope["signatures"]])
            (folder / "attrail/statement.json").write_bytes(encode(unsigned))
            self._seal(folder, draw)

        return self._in_folder(change)

    def with_another_key(self, draw: Draw) -> bytes:
        """Everything made anew and signed by a key that nobody trusts, put into the bundle as well."""

        def change(folder: Path) -> None:
            self._alter_run(folder, draw)
            payload = self._payload(folder, "attrail/statement.json")
            payload["predicate"]["manifest_digest"] = manifest_digest(folder / "attrail")
            payload["subject"][1]["digest"]["sha256"] = manifest_digest(folder / "attrail").removeprefix("sha256:")
            (folder / "attrail/statement.json").write_bytes(sign(encode(payload), [_forger(draw)]))
            self._seal(folder, draw)

        return self._in_folder(change)

    def _seal(self, folder: Path, draw: Draw) -> None:
        payload = self._payload(folder, "bundle.json")
        payload["predicate"]["files"] = sealed_files(folder)
        payload["subject"] = [
            {"name": name, "digest": {"sha256": found.removeprefix("sha256:")}}
            for name, found in payload["predicate"]["files"].items()
        ]
        signers = draw.choice([[], [_forger(draw)]])
        (folder / "bundle.json").write_bytes(sign(encode(payload), signers))

    def _alter_run(self, folder: Path, draw: Draw) -> None:
        run = folder / "attrail"
        name = draw.choice(sorted(set(json.loads((run / "manifest.json").read_bytes()))))
        content = (run / name).read_bytes()
        (run / name).write_bytes(flip(content, draw) if content else b"x")
        write_manifest(run)

    def _payload(self, folder: Path, name: str) -> Any:
        return json.loads(read_envelope((folder / name).read_bytes()).payload)

    def _in_folder(self, change: Callable[[Path], None]) -> bytes:
        with tempfile.TemporaryDirectory() as scratch:
            source, folder = Path(scratch, "source.zip"), Path(scratch, "files")
            source.write_bytes(self.bundle)
            unpack(source, folder)
            change(folder)
            return _packed({path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()})

    def _with(self, change: Callable[[dict[str, bytes]], None]) -> bytes:
        files = self._files()
        change(files)
        with tempfile.TemporaryDirectory() as scratch:
            paths = {name: Path(scratch, str(row)) for row, name in enumerate(files)}
            for name, path in paths.items():
                path.write_bytes(files[name])
            return _packed(paths)

    def _files(self) -> dict[str, bytes]:
        with zipfile.ZipFile(io.BytesIO(self.bundle)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}


# -- a journal ---------------------------------------------------------------------------------------------------------
class JournalForger:
    """Changes to a journal and its head: pairs of the two files' contents."""

    def __init__(self, journal: bytes, head: bytes) -> None:
        self.journal, self.head = journal, head

    def in_bytes(self, draw: Draw) -> tuple[bytes, bytes]:
        change = draw.choice(IN_BYTES)
        return change(self.journal, draw), self.head

    def in_rows(self, draw: Draw) -> tuple[bytes, bytes]:
        change = draw.choice(IN_ROWS)
        return change(self.journal, draw), self.head

    def in_field(self, draw: Draw) -> tuple[bytes, bytes]:
        lines = self.journal.splitlines()
        row = draw.randrange(len(lines))
        lines[row] = encode(alter_field(json.loads(lines[row]), draw))
        return _joined(lines), self.head

    def in_head(self, draw: Draw) -> tuple[bytes, bytes]:
        change = draw.choice(IN_BYTES)
        return self.journal, change(self.head, draw)

    def with_hashes(self, draw: Draw) -> tuple[bytes, bytes]:
        """A record altered, removed or repeated, and every index and hash from there on made anew, the head too."""
        records = [json.loads(line) for line in self.journal.splitlines()]
        row, kind = draw.randrange(1, len(records)), draw.randrange(3)
        if kind == 0:
            records[row]["body"] = alter_field(records[row]["body"], draw)
        elif kind == 1 and row < len(records) - 1:
            del records[row]
        else:
            records.insert(row, dict(records[row]))
        lines = self._chained(records, draw)
        return _joined(lines), lines[-1]

    def with_forged_end(self, draw: Draw) -> tuple[bytes, bytes]:
        """A well-formed record added at the end, unsigned or signed by another key."""
        last = record_of(self.journal.splitlines()[-1])
        added = {"index": last.index + 1, "time": "2027-01-01T00:00:00Z", "event": "gate-allowed", "actor": "nobody"}
        added |= {"body": {"number": draw.random()}, "previous": last.hash, "signature": None}
        lines = [*self.journal.splitlines(), *self._chained([added], draw, last.index + 1, last.hash)]
        return _joined(lines), draw.choice([self.head, lines[-1]])

    def _chained(self, records: list[Any], draw: Draw, index: int = 0, previous: str | None = None) -> list[bytes]:
        lines, signature = [], draw.choice([None, "kept", "own"])
        for number, record in enumerate(records):
            content = {key: value for key, value in record.items() if key not in ("hash", "signature")}
            content |= {"index": index + number, "previous": previous or record["previous"]}
            given = record["signature"] if signature == "kept" else None
            if signature == "own":
                signed = _forger(draw).sign(Envelope(encode(content), RECORD_TYPE, {}).pae())
                given = {"keyid": signed.keyid, "sig": signed.signature}
            text = encode(content | {"signature": given})
            previous = "sha256:" + hashlib.sha256(text).hexdigest()
            lines.append(encode(content | {"signature": given, "hash": previous}))
        return lines


def _forger(draw: Draw) -> Any:
    return signer_of(f"forger {draw.randrange(3)}")


def _update(files: dict[str, bytes], name: str, change: Callable[[bytes, Draw], bytes], draw: Draw) -> None:
    files[name] = change(files[name], draw)


def _field(files: dict[str, bytes], name: str, draw: Draw) -> None:
    files[name] = (json.dumps(alter_field(json.loads(files[name]), draw), indent=1) + "\n").encode()


def _packed(paths: dict[str, Path]) -> bytes:
    target = io.BytesIO()
    pack(paths, target)
    return target.getvalue()


def _joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)
