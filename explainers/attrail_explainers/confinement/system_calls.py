"""Which system calls a process may make no more, by a filter in the kernel (seccomp(2)), for the rest of its life.

The list names what is refused, for torch and Python between them make most of the others. Own code: libseccomp is a
library of the system, which a machine may lack.
"""

import ctypes
import errno
import os
import struct
from collections.abc import Iterator

from attrail_explainers.confinement.kernel import control

# By name: the number on x86_64 and on aarch64 (asm/unistd_64.h, asm-generic/unistd.h), None for no such call.
REFUSED: dict[str, tuple[int | None, int | None]] = {
    # Sockets of any kind, and pipes of System V and POSIX to other processes.
    **{"socket": (41, 198), "socketpair": (53, 199)},
    **{"shmget": (29, 194), "semget": (64, 190), "msgget": (68, 186), "mq_open": (240, 180)},
    # Other programs and processes: starting, stopping, tracing and hurrying them.
    **{"fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281)},
    **{"kill": (62, 129), "tkill": (200, 130), "tgkill": (234, 131), "rt_sigqueueinfo": (129, 138)},
    **{"rt_tgsigqueueinfo": (297, 240), "pidfd_open": (434, 434), "pidfd_send_signal": (424, 424)},
    **{"ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272)},
    **{"pidfd_getfd": (438, 438), "process_madvise": (440, 440), "setpriority": (141, 140)},
    **{"sched_setaffinity": (203, 122)},
    # Owners, modes, times and attributes of files, which Landlock leaves alone; truncate is older Landlock's gap.
    **{"chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452)},
    **{"chown": (92, None), "fchown": (93, 55), "lchown": (94, None), "fchownat": (260, 54)},
    **{"utime": (132, None), "utimes": (235, None), "futimesat": (261, None), "utimensat": (280, 88)},
    **{"setxattr": (188, 5), "lsetxattr": (189, 6), "fsetxattr": (190, 7), "setxattrat": (463, 463)},
    **{"removexattr": (197, 14), "lremovexattr": (198, 15), "fremovexattr": (199, 16), "removexattrat": (466, 466)},
    **{"file_setattr": (469, 469), "truncate": (76, 45)},
    # Ways around all of it, and what belongs to the machine's owner.
    **{"io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427)},
    **{"bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282)},
    **{"add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219)},
    **{"mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51)},
    **{"open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fspick": (433, 433)},
    **{"mount_setattr": (442, 442), "unshare": (272, 97), "setns": (308, 268), "open_by_handle_at": (304, 265)},
    **{"init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106)},
    **{"kexec_load": (246, 104), "kexec_file_load": (320, 294), "reboot": (169, 142)},
}
CLONE = (56, 220)
CLONE3 = (435, 435)
LIMIT = (302, 261)  # prlimit64, which sets other processes' limits as well
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # linux/audit.h
OTHER_ABI = 0x40000000  # x86_64's calls with 32-bit pointers have numbers from here on
CLONE_THREAD = 0x10000

SET_SECCOMP, FILTER = 22, 2
LOAD, EQUAL, AT_LEAST, ANY_BIT, ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
NUMBER, MACHINE, FIRST_ARGUMENT = 0, 4, 16  # where they stand in the kernel's seccomp_data
ALLOW, KILL, REFUSE = 0x7FFF0000, 0x80000000, 0x00050000


def refuse_calls() -> None:
    """Let this thread, and whatever comes of it, make none of the calls of ``REFUSED``, nor start a process.

    They fail with EPERM. ``give_up_privileges`` goes before. Raises OSError on another kind of machine than those of
    ``MACHINES``, and where the kernel takes no filter.
    """
    machine = os.uname().machine
    if machine not in MACHINES or struct.calcsize("P") != 8:
        raise OSError(errno.ENOSYS, f"the numbers of system calls on {machine} are not known here")
    program = b"".join(_program(*MACHINES[machine]))
    kept = ctypes.create_string_buffer(program, len(program))
    control(SET_SECCOMP, FILTER, struct.pack("HL", len(program) // 8, ctypes.addressof(kept)))


def _program(column: int, machine: int) -> Iterator[bytes]:
    """The filter's instructions; every jump passes over the next one or the next four."""
    yield from (_step(LOAD, MACHINE), _step(EQUAL, machine, 1, 0), _step(ANSWER, KILL))
    yield _step(LOAD, NUMBER)
    yield from (_step(AT_LEAST, OTHER_ABI, 0, 1), _step(ANSWER, REFUSE | errno.EPERM))
    # As on a kernel without it, after which the C library asks for a thread by clone, whose flags can be read.
    yield from (_step(EQUAL, CLONE3[column], 0, 1), _step(ANSWER, REFUSE | errno.ENOSYS))
    for numbers in REFUSED.values():
        number = numbers[column]
        if number is not None:
            yield from (_step(EQUAL, number, 0, 1), _step(ANSWER, REFUSE | errno.EPERM))
    yield from _only_if(CLONE[column], _step(ANY_BIT, CLONE_THREAD, 0, 1))
    yield from _only_if(LIMIT[column], _step(EQUAL, 0, 0, 1))
    yield _step(ANSWER, ALLOW)


def _only_if(number: int, asked: bytes) -> Iterator[bytes]:
    """A call is allowed if its first argument is as it is asked for."""
    yield from (_step(EQUAL, number, 0, 4), _step(LOAD, FIRST_ARGUMENT), asked)
    yield from (_step(ANSWER, ALLOW), _step(ANSWER, REFUSE | errno.EPERM))


def _step(code: int, value: int, if_so: int = 0, if_not: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_so, if_not, value)
