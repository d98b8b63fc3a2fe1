"""Calls of the Linux kernel that Python's library does not have, each an OSError where the kernel refuses it."""

import ctypes
import os
import struct

SET_NO_NEW_PRIVILEGES = 38  # linux/prctl.h
CAPABILITIES = 0x20080522  # version 3 of linux/capability.h

_libc = ctypes.CDLL(None, use_errno=True)


def system_call(number: int, *arguments: object) -> int:
    """What a system call answers; its arguments are whole numbers, bytes or ctypes' objects."""
    return _checked(_libc.syscall(ctypes.c_long(number), *map(_passed, arguments)))


def control(option: int, *arguments: object) -> int:
    """What prctl answers, with zeros for arguments that are left out."""
    given = [*map(_passed, arguments), *[ctypes.c_ulong(0)] * (4 - len(arguments))]
    return _checked(_libc.prctl(option, *given))


def give_up_privileges() -> None:
    """No program that is started gains any, and root's own are gone: such as to raise limits again."""
    control(SET_NO_NEW_PRIVILEGES, 1)
    _checked(_libc.capset(struct.pack("=Ii", CAPABILITIES, 0), bytes(24)))


def _passed(argument: object) -> object:
    return ctypes.c_ulong(argument) if isinstance(argument, int) else argument


def _checked(answer: int) -> int:
    if answer < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return answer
