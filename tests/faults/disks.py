"""Disks that can be full: small file systems in memory where a service keeps its files. Only root may mount."""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def mounted(*folders: Path, megabytes: int = 512) -> Iterator[None]:
    """A file system of its own at each folder, until the block ends."""
    assert os.getuid() == 0, "only root can mount small disks: run this part as root, in a container for instance"
    with contextlib.ExitStack() as mounts:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
            size = f"size={megabytes}m,mode=1777"
            subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], check=True)
            mounts.callback(subprocess.run, ["umount", "--lazy", str(folder)], check=True)
        yield


@contextlib.contextmanager
def full(folder: Path, left: int = 0) -> Iterator[None]:
    """A disk with ``left`` bytes free, until the block ends."""
    filler = folder / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(1 << 20))
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(4096))
            file.truncate(file.tell() - left)
        yield
    finally:
        filler.unlink()
