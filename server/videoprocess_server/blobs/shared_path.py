"""Opens a file that a caller named below a shared root, with no way out of that root.

The kernel resolves the whole path at once (openat2 with RESOLVE_BENEATH), so nobody can swap a folder for a link in
between. Where it refuses that call, the path is walked one name at a time without following any link at all.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Mapping
from pathlib import Path

#: the same number on every architecture
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08

#: O_NONBLOCK: opening a FIFO must not wait for its writer
_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

#: the kernel answers EAGAIN when a folder on the way is renamed meanwhile
_ATTEMPTS = 8

_REASONS: Mapping[int, str] = {
    errno.ENOENT: "NO_SUCH_PATH",
    errno.ENOTDIR: "NO_SUCH_PATH",
    errno.ENAMETOOLONG: "NO_SUCH_PATH",
    errno.EXDEV: "PATH_OUTSIDE_ROOT",
    errno.ELOOP: "PATH_OUTSIDE_ROOT",
    errno.EACCES: "FILE_UNREADABLE",
    errno.EPERM: "FILE_UNREADABLE",
    errno.EAGAIN: "FILE_UNREADABLE",
    errno.ENXIO: "NOT_A_REGULAR_FILE",
    errno.ENODEV: "NOT_A_REGULAR_FILE",
}


class SharedPathError(Exception):
    """The path cannot be used. `reason` is one of the catalogue in errors.py."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(root: Path, relative: str) -> int:
    """Open a regular file for reading.

    Args:
        root: the shared root, an operator's own choice; it may be a link.
        relative: what the caller gave.

    Returns:
        a descriptor, which the caller closes.

    Raises:
        SharedPathError: with the reason NO_SUCH_PATH, PATH_OUTSIDE_ROOT, NOT_A_REGULAR_FILE or FILE_UNREADABLE.
        OSError: the root itself cannot be opened, or the service is out of descriptors.
    """
    path = _checked(relative)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = _open(root_fd, path)
    except OSError as error:
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            raise
        raise SharedPathError(reason, f"{relative!r}: {error.strerror}") from error
    finally:
        os.close(root_fd)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SharedPathError("NOT_A_REGULAR_FILE", f"{relative!r} is not a regular file")
    os.set_blocking(fd, True)
    return fd


def identity(fd: int) -> str:
    """Return what tells one state of a file from another: "device:inode:size:mtime_ns"."""
    status = os.fstat(fd)
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}"


def change_time_ns(fd: int) -> int:
    """Return when the file's content or anything else about it was last changed, which nobody can set."""
    return os.fstat(fd).st_ctime_ns


def _checked(relative: str) -> bytes:
    if relative.startswith("/") or ".." in relative.split("/"):
        raise SharedPathError("PATH_OUTSIDE_ROOT", f"{relative!r} is not a relative path without '..'")
    if not relative or "\0" in relative:
        raise SharedPathError("NO_SUCH_PATH", f"{relative!r} is no path")
    if relative.endswith("/"):
        raise SharedPathError("NOT_A_REGULAR_FILE", f"{relative!r} names a folder")
    try:
        return os.fsencode(relative)
    except UnicodeEncodeError as error:
        raise SharedPathError("NO_SUCH_PATH", f"{relative!r} is not Unicode") from error


def _open(root_fd: int, path: bytes) -> int:
    try:
        return _open_at_once(root_fd, path)
    except OSError as error:
        # EPERM is what a seccomp filter answers that does not know the call; if it is the file's own, it comes again.
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return _open_step_by_step(root_fd, path)


def _open_at_once(root_fd: int, path: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(flags=_FLAGS, mode=0, resolve=_RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    number = errno.EAGAIN
    for _attempt in range(_ATTEMPTS):
        fd: int = libc.syscall(_SYS_OPENAT2, root_fd, path, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


def _open_step_by_step(root_fd: int, path: bytes) -> int:
    *folders, name = [part for part in path.split(b"/") if part not in (b"", b".")] or [b"."]
    here = os.dup(root_fd)
    try:
        for folder in folders:
            _refuse_link(here, folder)
            there = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = there
        return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


def _refuse_link(folder_fd: int, name: bytes) -> None:
    """Name a link by its error: for a folder the kernel says only that a link is none. Safety does not rest on this."""
    if stat.S_ISLNK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
