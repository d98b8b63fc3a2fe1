"""Plain files: what somebody named is read only if it is one, and no more of it than such a file can hold.

Opening a named pipe waits for whoever writes to it, which may be nobody, and a device need not end.
"""

import os
import stat
import tomllib
from pathlib import Path
from typing import Any, BinaryIO

MOST = 16 * 1024 * 1024  # bytes: keys, policies, statements and manifests are far shorter
WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)  # has no effect on a plain file
OTHERS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def open_plain(path: Path) -> BinaryIO:
    """The file, opened for reading; OSError at once when it is not there, or no plain file."""
    descriptor = os.open(path, os.O_RDONLY | WITHOUT_WAITING)
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    if kind != stat.S_IFREG:
        os.close(descriptor)
        raise OSError(f"it is {OTHERS.get(kind, 'no file')}, a plain file was expected")
    return os.fdopen(descriptor, "rb")


def require_plain(path: Path) -> None:
    """Raise the OSError of ``open_plain`` unless the path leads to a plain file or to nothing at all."""
    try:
        open_plain(path).close()
    except FileNotFoundError:
        return


def read_plain(path: Path, most: int = MOST) -> bytes:
    """The file's bytes; OSError as ``open_plain``, and when there are more than ``most``."""
    with open_plain(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(f"it has more than {most} bytes, which is too long for such a file")
    return content


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; OSError as ``read_plain``, ValueError when it is no UTF-8 or no TOML."""
    try:
        return tomllib.loads(read_plain(path).decode("utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
