"""Digests of files where they lie, computed anew only when the file system says that a file changed.

A file counts as unchanged while its path, device, inode, size, modification time and change time are the same. A swap
that puts the modification time back is seen by the change time: the kernel sets it on every write, rename and utime,
and no call sets it back. A change within the tick of that clock would not move it, so the digest of a file that changed
within the last two seconds is not kept (git treats such files alike). What this does not see: somebody on the server
itself who can set its clock, write to the disk below the file system, or had mapped the file into memory to write to it
before it was read.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.registry.folder_digest import file_digest

SETTLED = 2.0  # seconds; file systems' clocks tick every 10 ms at the slowest, FAT's every 2 s
LIMIT = 100_000  # files remembered, some 30 MB

Facts = tuple[int, ...]


@dataclass
class FileDigests:
    """Remembers the SHA-256 of files by what the file system says of them; safe to share between threads."""

    clock: Callable[[], float] = time.time
    known: dict[Path, tuple[Facts, str]] = field(default_factory=dict)

    def unread(self, path: Path) -> int:
        """How many bytes ``digest`` would read: none of a file that is remembered."""
        facts = _facts(path)
        return 0 if self._remembered(path, facts) else facts[2]

    def digest(self, path: Path) -> str:
        """The SHA-256 of a file; EvidenceError when it changes while it is read."""
        before = _facts(path)
        known = self._remembered(path, before)
        if known is not None:
            return known
        found = file_digest(path)
        if _facts(path) != before:
            raise EvidenceError(f"{path} changed while it was read")
        self._keep(path, before, found)
        return found

    def _remembered(self, path: Path, facts: Facts) -> str | None:
        known = self.known.get(path)
        return known[1] if known is not None and known[0] == facts else None

    def _keep(self, path: Path, facts: Facts, digest: str) -> None:
        if self.clock() - max(facts[-2:]) / 1e9 <= SETTLED:
            return
        if len(self.known) >= LIMIT:
            self.known.clear()
        self.known[path] = (facts, digest)


def _facts(path: Path) -> Facts:
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
