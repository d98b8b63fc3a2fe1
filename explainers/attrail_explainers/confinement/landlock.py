"""Which files a process may read and write, by Landlock (landlock(7); Linux 5.13 and later), for the rest of its life.

Own code, some forty lines: of the libraries on PyPI none is past its first releases, and most bring a binary.
"""

import os
import struct
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from attrail_explainers.confinement.kernel import system_call

CREATE, ADD, RESTRICT = 444, 445, 446  # the same numbers on every architecture
VERSION, PATH_BENEATH = 1, 1
# linux/landlock.h: what there is to be allowed since versions 1, 2, 3 and 5 of the interface. Changes of owners and
# modes it does not know: the filter of system calls refuses these.
RIGHTS = {1: (1 << 13) - 1, 2: 1 << 13, 3: 1 << 14, 5: 1 << 15}
WRITE_FILE, READ_FILE, READ_FOLDER = 1 << 1, 1 << 2, 1 << 3
REMOVE_FOLDER, REMOVE_FILE, MAKE_FOLDER, MAKE_FILE, TRUNCATE = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 14
READING = READ_FILE | READ_FOLDER
WRITING = READING | WRITE_FILE | REMOVE_FOLDER | REMOVE_FILE | MAKE_FOLDER | MAKE_FILE | TRUNCATE  # no links, no pipes
OF_FILES = WRITE_FILE | READ_FILE | TRUNCATE
NOWHERE = Path(os.devnull)


def restrict_files(writable: Path, readable: Iterable[Path]) -> int:
    """Let this thread, and whatever comes of it, write beneath one folder and read beneath others, and nowhere else.

    Returns the version of the kernel's interface; raises OSError where the kernel has none. A path that is not there is
    passed over.
    """
    version = system_call(CREATE, 0, 0, VERSION)
    handled = sum(right for since, right in RIGHTS.items() if since <= version)
    rules = system_call(CREATE, struct.pack("=Q", handled), 8, 0)
    try:
        for path in readable:
            with suppress(FileNotFoundError):
                _allow(rules, path, READING & handled)
        _allow(rules, NOWHERE, (READ_FILE | WRITE_FILE | TRUNCATE) & handled)
        _allow(rules, writable, WRITING & handled)
        system_call(RESTRICT, rules, 0)
    finally:
        os.close(rules)
    return version


def _allow(rules: int, path: Path, rights: int) -> None:
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        allowed = rights if path.is_dir() else rights & OF_FILES
        system_call(ADD, rules, PATH_BENEATH, struct.pack("=Qi", allowed, descriptor), 0)
    finally:
        os.close(descriptor)
