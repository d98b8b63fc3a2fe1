"""A journal in a file: one line per record, with its head, its lock and torn lines in files beside it.

::

    journal.jsonl            the records
    journal.jsonl.head       a copy of the last one
    journal.jsonl.lock       held while a record is appended
    journal.jsonl.torn-1     half a line that a crash left, which a record of the journal names
    journal.jsonl.damaged-1  a journal that was given up, which the next one's ``restart`` record names
"""

import contextlib
import itertools
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from attrail_explainers.digest import digest_of_bytes, digest_of_file
from attrail_explainers.errors import ConfigError, EvidenceError, RecordError
from attrail_explainers.files.plain_file import MOST, open_plain, read_plain, require_plain
from attrail_mlflow.journal.hash_chain import Event, JournalRecord

BLOCK = 64 * 1024  # bytes read at a time, from the end


@dataclass(frozen=True)
class JournalFile:
    """The store of a journal in a file; several threads and processes of one machine may append.

    Not for a network file system: its locks may not hold between machines. ``journal.table`` is for that.
    """

    path: Path

    @property
    def head_path(self) -> Path:
        """The file that holds the head, beside the journal."""
        return self.path.with_name(self.path.name + ".head")

    @contextlib.contextmanager
    def transaction(self) -> Iterator["FileEnd"]:
        """The end of the file, locked; RecordError when it cannot be written."""
        lock = FileLock(self.path.with_name(self.path.name + ".lock"), thread_local=False)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            require_plain(self.path)
            with lock, open(self.path, "a+b") as file:
                yield FileEnd(file, self.path, self.head_path)
        except OSError as error:
            raise RecordError(f"journal {self.path} cannot be written: {error}") from error

    def lines(self) -> Iterator[bytes]:
        """Every line; EvidenceError for a file that cannot be read, or a last line that is not whole."""
        try:
            with open_plain(self.path) as file:
                for row, line in enumerate(iter(lambda: file.readline(MOST), b""), start=1):
                    if not line.endswith(b"\n"):
                        raise EvidenceError(
                            f"journal, line {row} is torn: a crash, or somebody, cut it after {len(line)} bytes; the "
                            "next append sets it aside if it was a crash"
                        )
                    yield line[:-1]
        except OSError as error:
            raise EvidenceError(f"journal {self.path} cannot be read: {error}") from error

    def head(self) -> bytes | None:
        """The head, None when there is none; OSError when it cannot be read."""
        return _content(self.head_path)

    def require_torn(self, record: JournalRecord) -> None:
        """Raise EvidenceError if the record speaks of a torn line whose file is gone or altered."""
        if record.event != Event.TORN:
            return
        content = _content(self.path.with_name(Path(str(record.body.get("file"))).name))
        if content is None or _facts(content, "")["sha256"] != record.body.get("sha256"):
            raise EvidenceError(f"record {record.index} set aside {record.body.get('file')}, which is gone or altered")

    @contextlib.contextmanager
    def begun_anew(self) -> Iterator[tuple["JournalFile", dict[str, Any]]]:
        """A new journal to begin in the block, and the name and digest under which this damaged one is kept.

        The new one takes this one's place when the block ends, and nothing has moved when it fails. Raises ConfigError
        when there is no journal, RecordError when files cannot be moved.
        """
        if not (self.path.exists() or self.head_path.exists()):  # and no lock is left where no journal ever was
            raise ConfigError(f"there is no journal {self.path} to begin anew")
        try:
            with FileLock(self.path.with_name(self.path.name + ".lock"), thread_local=False):
                name = _free_name(self.path, "damaged")
                with tempfile.TemporaryDirectory(prefix=f"{self.path.name}.", dir=self.path.parent) as beside:
                    fresh = JournalFile(Path(beside) / self.path.name)
                    yield fresh, _facts_of_file(self.path, name)
                    self._give_way(fresh, name)
        except OSError as error:
            raise RecordError(f"journal {self.path} cannot begin anew: {error}") from error

    def _give_way(self, fresh: "JournalFile", name: str) -> None:
        """Heads first: after a crash between any two moves the journal and its head disagree, which appends refuse."""
        kept = self.path.with_name(name)
        for old, aside, new in (
            (self.head_path, JournalFile(kept).head_path, fresh.head_path),
            (self.path, kept, fresh.path),
        ):
            if old.exists():
                old.rename(aside)
            new.rename(old)


@dataclass
class FileEnd:
    """The end of a journal file, under its lock."""

    file: BinaryIO
    path: Path
    head_path: Path

    def backwards(self) -> Iterator[bytes]:
        """The whole lines, the last one first, read from the end: a journal may be longer than memory."""
        end = self._newline_before(self._size()) + 1
        while end > 0:
            start = self._newline_before(end - 1) + 1
            yield self._read(start, end - 1)
            end = start

    def head(self) -> bytes | None:
        """The head, None when there is none."""
        return _content(self.head_path)

    def set_aside(self) -> Mapping[str, Any] | None:
        """Move a half-written last line into a file of its own: its name, length and digest; None if all are whole."""
        size = self._size()
        whole = self._newline_before(size) + 1
        if whole == size:
            return None
        torn = self._read(whole, size)
        facts = _facts(torn, _free_name(self.path, "torn"))
        _write_whole(self.path.with_name(facts["file"]), torn)
        self.file.truncate(whole)
        os.fsync(self.file.fileno())
        return facts

    def append(self, line: bytes) -> None:
        """Keep a line and its copy, the head; both are on the disk once this returns."""
        self.file.seek(0, os.SEEK_END)
        self.file.write(line + b"\n")
        self.file.flush()
        os.fsync(self.file.fileno())
        _write_whole(self.head_path, line)

    def _newline_before(self, end: int) -> int:
        """Position of the last newline before ``end``, -1 when there is none."""
        while end > 0:
            start = max(0, end - BLOCK)
            found = self._read(start, end).rfind(b"\n")
            if found >= 0:
                return start + found
            end = start
        return -1

    def _size(self) -> int:
        return os.fstat(self.file.fileno()).st_size

    def _read(self, start: int, end: int) -> bytes:
        self.file.seek(start)
        return self.file.read(end - start)


def _free_name(path: Path, what: str) -> str:
    names = (f"{path.name}.{what}-{number}" for number in itertools.count(1))
    return next(name for name in names if not any(path.with_name(name + end).exists() for end in ("", ".head")))


def _facts_of_file(path: Path, name: str) -> dict[str, Any]:
    """The facts of a whole file, or of none when it is gone; it may be longer than memory."""
    if not path.exists():
        return _facts(b"", name)
    require_plain(path)
    return {"file": name, "bytes": path.stat().st_size, "sha256": digest_of_file(path)}


def _facts(torn: bytes, name: str) -> dict[str, Any]:
    return {"file": name, "bytes": len(torn), "sha256": digest_of_bytes(torn)}


def _content(path: Path) -> bytes | None:
    try:
        return read_plain(path)
    except FileNotFoundError:
        return None


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all: a new file, its bytes kept for good, takes the old one's place."""
    fresh = path.with_name(path.name + ".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
