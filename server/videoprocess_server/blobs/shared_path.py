"""Opens what a caller named below a shared root, with no way out of that root.

The kernel resolves the whole path at once (openat2 with RESOLVE_BENEATH), so nobody can swap a folder for a link in
between. Where it refuses that call, the path is walked one name at a time without following any link at all. Either way a
folder may be renamed out of the root between two names of the path, which the kernel does not mind: so what was opened is
asked where it is, and used only if that is below the root.
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
_FILE_FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
#: no O_PATH: its names are to be synced
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

#: the kernel answers EAGAIN when a folder on the way is renamed meanwhile
_ATTEMPTS = 8
#: what the kernel puts after the path of a file without a name
_DELETED = " (deleted)"

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
    if relative.endswith("/"):
        raise SharedPathError("NOT_A_REGULAR_FILE", f"{relative!r} names a folder")
    fd = _open(root, path, relative, _FILE_FLAGS)
    os.set_blocking(fd, True)
    return fd


def open_folder_beneath(root: Path, relative: str) -> int:
    """Open a folder, to make files in it; "" is the root itself.

    Returns:
        a descriptor, which the caller closes.

    Raises:
        SharedPathError: with the reason NO_SUCH_PATH, PATH_OUTSIDE_ROOT or FILE_UNREADABLE.
        OSError: as for `open_beneath`.
    """
    return _open(root, _checked(relative or "."), relative, _FOLDER_FLAGS)


def is_beneath(root: Path, fd: int) -> bool:
    """Return whether what a descriptor stands for is below the root at this moment, and has a name there.

    Raises:
        OSError: the root itself cannot be opened.
    """
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _is_beneath(root_fd, fd)
    finally:
        os.close(root_fd)


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
    try:
        return os.fsencode(relative)
    except UnicodeEncodeError as error:
        raise SharedPathError("NO_SUCH_PATH", f"{relative!r} is not Unicode") from error


def _open(root: Path, path: bytes, relative: str, flags: int) -> int:
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fd = _open_below(root_fd, path, flags)
        except OSError as error:
            reason = _REASONS.get(error.errno or 0)
            if reason is None:
                raise
            raise SharedPathError(reason, f"{relative!r}: {error.strerror}") from error
        try:
            _check_opened(root_fd, fd, relative, flags)
        except BaseException:
            os.close(fd)
            raise
    finally:
        os.close(root_fd)
    return fd


def _check_opened(root_fd: int, fd: int, relative: str, flags: int) -> None:
    if flags == _FILE_FLAGS and not stat.S_ISREG(os.fstat(fd).st_mode):
        raise SharedPathError("NOT_A_REGULAR_FILE", f"{relative!r} is not a regular file")
    if not _is_beneath(root_fd, fd):
        raise SharedPathError("NO_SUCH_PATH", f"{relative!r} was moved or deleted while it was opened")


def _is_beneath(root_fd: int, fd: int) -> bool:
    """The kernel tells a path of one moment: no rename can come into the middle of it."""
    try:
        root, path = (str(Path(f"/proc/self/fd/{each}").readlink()) for each in (root_fd, fd))
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise
    if path != root and not path.startswith(f"{root.rstrip('/')}/"):
        return False
    return not path.endswith(_DELETED) or _is_named(path, os.fstat(fd))


def _is_named(path: str, status: os.stat_result) -> bool:
    """Whether a name that ends like that of a deleted file is one."""
    try:
        return os.path.samestat(os.lstat(path), status)
    except OSError:
        return False


def _open_below(root_fd: int, path: bytes, flags: int) -> int:
    try:
        return _open_at_once(root_fd, path, flags)
    except OSError as error:
        # EPERM is what a seccomp filter answers that does not know the call; if it is the file's own, it comes again.
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
        return _open_step_by_step(root_fd, path, flags)


def _open_at_once(root_fd: int, path: bytes, flags: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    how = _OpenHow(flags=flags, mode=0, resolve=_RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS)
    number = errno.EAGAIN
    for _attempt in range(_ATTEMPTS):
        fd: int = libc.syscall(_SYS_OPENAT2, root_fd, path, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number))


def _open_step_by_step(root_fd: int, path: bytes, flags: int) -> int:
    *folders, name = [part for part in path.split(b"/") if part not in (b"", b".")] or [b"."]
    here = os.dup(root_fd)
    try:
        for folder in folders:
            _refuse_link(here, folder)
            there = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=here)
            os.close(here)
            here = there
        if flags & os.O_DIRECTORY:
            _refuse_link(here, name)
        return os.open(name, flags | os.O_NOFOLLOW, dir_fd=here)
    finally:
        os.close(here)


def _refuse_link(folder_fd: int, name: bytes) -> None:
    """Name a link by its error: for a folder the kernel says only that a link is none. Safety does not rest on this."""
    if stat.S_ISLNK(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode):
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
