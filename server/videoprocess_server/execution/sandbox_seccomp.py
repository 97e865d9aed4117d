"""Seccomp: system calls that a worker never needs fail (man 2 seccomp, linux/filter.h).

A list of what is refused, not of what is allowed: a library that is brought up to date may need new calls, and Landlock
holds what matters of files. The libraries that make such filters are not kept up, or need one of the system's beside them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW, _KILL_PROCESS, _ERRNO = 0x7FFF_0000, 0x8000_0000, 0x0005_0000
# BPF_LD|BPF_W|BPF_ABS, BPF_JMP|BPF_JEQ|BPF_K, BPF_JMP|BPF_JGE|BPF_K, BPF_JMP|BPF_JSET|BPF_K, BPF_RET|BPF_K
_LOAD, _EQUAL, _AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_INSTRUCTION: Final = struct.Struct("=HBBI")
#: places in struct seccomp_data: the call's number, the architecture, the low half of the first argument
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
#: of x86_64's second way to call, which has the same calls under other numbers
_X32_BIT: Final = 0x4000_0000
_CLONE_THREAD: Final = 0x0001_0000

#: name → its number on x86_64 (asm/unistd_64.h) and on aarch64 (asm-generic/unistd.h); None where there is no such call
_REFUSED: Final[Mapping[str, tuple[int | None, int | None]]] = {
    # the network, and other programs by it
    "socket": (41, 198),
    "socketpair": (53, 199),
    "connect": (42, 203),
    "bind": (49, 200),
    "listen": (50, 201),
    "accept": (43, 202),
    "accept4": (288, 242),
    # other programs and processes
    "execve": (59, 221),
    "execveat": (322, 281),
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "setns": (308, 268),
    "unshare": (272, 97),
    # ways around the two filters, and large surfaces of the kernel
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    # the machine
    "mount": (165, 40),
    "umount2": (166, 39),
    "move_mount": (429, 429),
    "open_tree": (428, 428),
    "fsopen": (430, 430),
    "fsmount": (432, 432),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "mknod": (133, None),
    "mknodat": (259, 33),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "quotactl": (179, 60),
    "acct": (163, 89),
    "syslog": (103, 116),
    "personality": (135, 92),
}


@dataclass(frozen=True)
class _Architecture:
    """What differs between machines."""

    #: AUDIT_ARCH_…
    audit: int
    #: column of the table
    column: int
    clone: int
    #: the same number everywhere
    clone3: int = 435


_ARCHITECTURES: Final[Mapping[str, _Architecture]] = {
    "x86_64": _Architecture(audit=0xC000_003E, column=0, clone=56),
    "aarch64": _Architecture(audit=0xC000_00B7, column=1, clone=220),
}


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_: Final = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]  # type: ignore[misc]


def refuse_calls() -> bool:
    """Have the calls of the table fail with EPERM, for the calling thread and those it starts; needs no_new_privs.

    Threads can be started, processes cannot.

    Returns:
        False on an architecture that is not in the table, and where the kernel has no such filters.
    """
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        return False
    code = _program(architecture)
    buffer = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // _INSTRUCTION.size, ctypes.addressof(buffer))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) == 0:
        return True
    if ctypes.get_errno() == errno.EINVAL:
        return False
    raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def _program(architecture: _Architecture) -> bytes:
    refusal = _ERRNO | errno.EPERM
    numbers = [row[architecture.column] for row in _REFUSED.values()]
    return b"".join(
        [
            _INSTRUCTION.pack(_LOAD, 0, 0, _ARCHITECTURE_AT),
            *_unless(_EQUAL, architecture.audit, _KILL_PROCESS),
            _INSTRUCTION.pack(_LOAD, 0, 0, _NUMBER_AT),
            *(_when(_AT_LEAST, _X32_BIT, refusal) if architecture.column == 0 else ()),
            *(part for number in numbers if number is not None for part in _when(_EQUAL, number, refusal)),
            # What it starts cannot be read out of memory: the C library takes the older call instead.
            *_when(_EQUAL, architecture.clone3, _ERRNO | errno.ENOSYS),
            *_unless(_EQUAL, architecture.clone, _ALLOW),
            _INSTRUCTION.pack(_LOAD, 0, 0, _FIRST_ARGUMENT_AT),
            *_unless(_HAS_BITS, _CLONE_THREAD, refusal),
            _INSTRUCTION.pack(_RETURN, 0, 0, _ALLOW),
        ]
    )


def _when(test: int, operand: int, answer: int) -> Sequence[bytes]:
    return _INSTRUCTION.pack(test, 0, 1, operand), _INSTRUCTION.pack(_RETURN, 0, 0, answer)


def _unless(test: int, operand: int, answer: int) -> Sequence[bytes]:
    return _INSTRUCTION.pack(test, 1, 0, operand), _INSTRUCTION.pack(_RETURN, 0, 0, answer)
