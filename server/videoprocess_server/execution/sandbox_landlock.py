"""Landlock: which files a process may still open, and whom it may still reach (linux/landlock.h, man 7 landlock).

No kept-up Python library wraps the three system calls; here they are by number. A kernel that has none of it, or an older
version of it, restricts less: `restrict` tells which version did.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

#: numbers of the system calls, the same on every architecture that Python wheels are made for
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

# LANDLOCK_ACCESS_FS_…
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_DIR, _REMOVE_FILE = 1 << 4, 1 << 5
_MAKE_DIR, _MAKE_REG = 1 << 7, 1 << 8
_ALL_OF_VERSION_1: Final = (1 << 13) - 1
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
#: what concerns a file rather than a folder
_OF_FILES: Final = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV

# LANDLOCK_ACCESS_NET_BIND_TCP and _CONNECT_TCP; LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET and _SIGNAL
_TCP: Final = 0b11
_SCOPES: Final = 0b11

#: version from which the kernel knows it, what of files; see "Previous limitations" in man 7 landlock
_FILES_SINCE: Final = ((1, _ALL_OF_VERSION_1), (2, _REFER), (3, _TRUNCATE), (5, _IOCTL_DEV))
_TCP_SINCE, _SCOPES_SINCE = 4, 6

_READABLE: Final = _READ_FILE | _READ_DIR
#: files and folders made, written, renamed and removed; no links, devices, pipes or sockets
_WRITABLE: Final = (
    _READABLE | _WRITE_FILE | _REMOVE_DIR | _REMOVE_FILE | _MAKE_DIR | _MAKE_REG | _REFER | _TRUNCATE
)

#: struct landlock_ruleset_attr: files, network, scopes; older kernels know its beginning
_RULESET: Final = struct.Struct("=QQQ")
_RULESET_BYTES_SINCE: Final = ((1, 8), (4, 16), (6, 24))
#: struct landlock_path_beneath_attr, packed
_BENEATH: Final = struct.Struct("=Qi")


def version() -> int:
    """Return the version of Landlock that the kernel has; 0 for none, or one that is switched off."""
    return max(0, _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION))


def restrict(readable: Sequence[str], writable: Sequence[str], *, scoped: bool = True) -> int:
    """Take everything from the calling thread, and those it starts, but the files beneath these places.

    Needs no_new_privs. Open descriptors stay what they are. Nothing may be executed, no TCP socket bound or connected; with
    `scoped`, no abstract Unix socket outside be reached and no process outside be sent signals.

    Args:
        readable: files and folders; those that are not there are left out.
        writable: the same, whose files may also be made and changed.
        scoped: whether sockets and signals are kept inside.

    Returns:
        The version that restricts; 0 where the kernel has none.

    Raises:
        OSError: the kernel has it but refuses.
    """
    known = version()
    if not known:
        return 0
    files = sum(access for since, access in _FILES_SINCE if known >= since)
    attributes = _RULESET.pack(
        files,
        _TCP if known >= _TCP_SINCE else 0,
        _SCOPES if scoped and known >= _SCOPES_SINCE else 0,
    )
    size = max(size for since, size in _RULESET_BYTES_SINCE if known >= since)
    ruleset = _checked(_syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), 0))
    try:
        for places, access in ((readable, _READABLE), (writable, _WRITABLE)):
            for place in places:
                with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
                    _allow(ruleset, place, access & files)
        _checked(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)
    return known


def _allow(ruleset: int, place: str, access: int) -> None:
    fd = os.open(place, os.O_PATH | os.O_CLOEXEC)
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= _OF_FILES
        _checked(_syscall(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, _BENEATH.pack(access, fd), 0))
    finally:
        os.close(fd)


def _syscall(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    return result


def _checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), f"landlock: {os.strerror(ctypes.get_errno())}")
    return result
