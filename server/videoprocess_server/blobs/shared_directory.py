"""A folder below a shared root that files are brought into: whole, under names of their own, and durably.

The folder is opened once and everything is done relative to its descriptor, so that a link put in its place leads nowhere
else. A file grows under a temporary name, which begins with a dot, and gets its name when it is whole.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

from videoprocess_server.blobs.file_copy import FileChangedError, FileUnreadableError, copy_file
from videoprocess_server.blobs.shared_path import SharedPathError, is_beneath, open_folder_beneath

#: of files that are not whole yet
TEMPORARY_PREFIX = ".videoprocess-"
#: of a file that is read between two looks at whether to go on
CHUNK_BYTES = 4 << 20
#: copied between two syncs of the data, so that none takes long and whoever stops the job is answered soon
SYNC_BYTES = 16 << 20
_RENAME_NOREPLACE = 1

#: a kernel or a file system that does not know the call, or a filter that does not: another way does the same
_NOT_KNOWN = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.EPERM})
#: what the caller, or whoever may write there, can mend
_REASONS: Mapping[int, str] = {
    errno.EACCES: "DIRECTORY_NOT_WRITABLE",
    errno.EPERM: "DIRECTORY_NOT_WRITABLE",
    errno.EFBIG: "DIRECTORY_NOT_WRITABLE",
    errno.ENOENT: "NO_SUCH_PATH",
    errno.EEXIST: "OUTPUT_EXISTS",
    errno.EISDIR: "OUTPUT_EXISTS",
    errno.ENOTDIR: "OUTPUT_EXISTS",
    errno.ENOTEMPTY: "OUTPUT_EXISTS",
    errno.ENAMETOOLONG: "DIRECTORY_NOT_WRITABLE",
    errno.EINVAL: "DIRECTORY_NOT_WRITABLE",
    errno.EMLINK: "DIRECTORY_NOT_WRITABLE",
    errno.ENOSYS: "DIRECTORY_NOT_WRITABLE",
    errno.EOPNOTSUPP: "DIRECTORY_NOT_WRITABLE",
}


class RootUnavailableError(OSError):
    """The root is not there, or cannot be written to, for a cause that is the operator's or passes by itself."""


class SharedDirectory:
    """An open folder. Not thread-safe.

    Args:
        root: the shared root.
        relative: of the folder; "" is the root itself.

    Raises:
        SharedPathError: with the reason NO_SUCH_PATH, PATH_OUTSIDE_ROOT or DIRECTORY_NOT_WRITABLE.
        RootUnavailableError: see there.
    """

    def __init__(self, root: Path, relative: str) -> None:
        self._root = root
        self._relative = relative
        try:
            self._fd = open_folder_beneath(root, relative)
        except SharedPathError as error:
            if error.reason != "FILE_UNREADABLE":
                raise
            raise SharedPathError("DIRECTORY_NOT_WRITABLE", error.message) from error
        except OSError as error:
            raise RootUnavailableError(error.errno, error.strerror) from error

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def identity(self) -> tuple[int, int]:
        """What tells it from other folders, however it is named: its device and inode."""
        status = os.fstat(self._fd)
        return status.st_dev, status.st_ino

    def check_writable(self) -> None:
        """Return if files can be made in it, as far as its permissions tell.

        Raises:
            SharedPathError: DIRECTORY_NOT_WRITABLE.
            RootUnavailableError: its file system is read-only.
        """
        if os.access(f"/proc/self/fd/{self._fd}", os.W_OK | os.X_OK, effective_ids=True):
            return
        if os.fstatvfs(self._fd).f_flag & os.ST_RDONLY:
            raise RootUnavailableError(errno.EROFS, os.strerror(errno.EROFS))
        raise SharedPathError("DIRECTORY_NOT_WRITABLE", f"{self._relative!r} cannot be written to")

    def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        status = os.fstatvfs(self._fd)
        return status.f_bavail * status.f_frsize

    def find(self, name: str) -> os.stat_result | None:
        """Return the status of what has this name, a link's own; None where nothing has."""
        try:
            return os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._told(error, name) from error

    def holds(self, name: str, size_bytes: int, sha256: str, go_on: Callable[[], None]) -> bool:
        """Return whether a regular file of this name has this content.

        Args:
            name: of a file in it.
            size_bytes: of the content.
            sha256: of the content, in hex.
            go_on: called again and again; raises where it is not to go on.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=self._fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM):
                return False
            raise self._told(error, name) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size_bytes:
                return False
            digest = hashlib.sha256()
            while data := os.read(fd, CHUNK_BYTES):
                digest.update(data)
                go_on()
        except OSError as error:
            raise self._told(error, name) from error
        finally:
            os.close(fd)
        return digest.hexdigest() == sha256

    def create(self, name: str) -> int:
        """Make an empty file of this name, durably, and return its inode; what had the name is gone.

        Its mode is 0666 less the service's umask, as of any new file, or what the folder's default ACL says.

        Raises:
            SharedPathError, RootUnavailableError: see there.
            OSError: ENOSPC and its like.
        """
        self.remove(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, 0o666, dir_fd=self._fd)
            try:
                return os.fstat(fd).st_ino
            finally:
                os.close(fd)
        except OSError as error:
            raise self._told(error, name) from error

    def fill(self, name: str, inode: int, source_fd: int, sha256: str, go_on: Callable[[], None]) -> None:
        """Copy the source's bytes into a file that `create` made, and sync them.

        Args:
            name: of the file.
            inode: that `create` returned.
            source_fd: of a regular file; its position is not used.
            sha256: of the source, in hex; what was written is read again and compared.
            go_on: called again and again; raises where it is not to go on, and the file stays as it is.

        Raises:
            SharedPathError: NO_SUCH_PATH where somebody took the file away, or see there.
            RootUnavailableError: what was written is not what is read, or see there.
            OSError: ENOSPC and its like.
        """
        try:
            fd = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
            try:
                if os.fstat(fd).st_ino != inode:
                    raise OSError(errno.ENOENT, "is not the file that was made")
                _copy(source_fd, fd, sha256, go_on)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._told(error, name) from error

    def give_name(self, temporary_name: str, name: str, *, replace: bool) -> None:
        """Give a whole file its name, durably.

        Raises:
            SharedPathError: OUTPUT_EXISTS where the name is taken and not to be replaced; NO_SUCH_PATH where the folder is
                not below its root any more: the file has its name then, in a folder that is elsewhere.
            RootUnavailableError: see there.
        """
        try:
            if replace:
                os.rename(temporary_name, name, src_dir_fd=self._fd, dst_dir_fd=self._fd)
            else:
                rename_to_new(self._fd, temporary_name, name)
            _sync_names(self._fd)
        except OSError as error:
            raise self._told(error, name) from error
        self.check_in_place()

    def check_in_place(self) -> None:
        """Return if the folder still is below its root.

        Raises:
            SharedPathError: NO_SUCH_PATH.
            RootUnavailableError: see there.
        """
        try:
            in_place = is_beneath(self._root, self._fd)
        except OSError as error:
            raise RootUnavailableError(error.errno, error.strerror) from error
        if not in_place:
            raise SharedPathError("NO_SUCH_PATH", f"{self._relative!r} was moved away")

    def remove(self, name: str) -> None:
        """Remove a file, durably; nothing happens where there is none."""
        try:
            os.unlink(name, dir_fd=self._fd)
            _sync_names(self._fd)
        except FileNotFoundError:
            return
        except OSError as error:
            raise self._told(error, name) from error

    def _told(self, error: OSError, name: str) -> Exception:
        """Return what an error means to whoever asked for the file."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return error
        reason = _REASONS.get(error.errno or 0)
        if reason is None:
            return RootUnavailableError(error.errno, error.strerror)
        place = f"{self._relative}/{name}" if self._relative else name
        return SharedPathError(reason, f"{place!r}: {error.strerror}")


def rename_to_new(folder_fd: int, old: str, new: str) -> None:
    """Rename within a folder, where nothing has the new name.

    Where the file system cannot do that at once, a second name is made before the first is taken away.

    Raises:
        OSError: EEXIST where something has.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    rename = getattr(libc, "renameat2", None)
    if rename is not None:
        if rename(folder_fd, os.fsencode(old), folder_fd, os.fsencode(new), _RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _NOT_KNOWN:
            raise OSError(number, os.strerror(number))
    os.link(old, new, src_dir_fd=folder_fd, dst_dir_fd=folder_fd, follow_symlinks=False)
    os.unlink(old, dir_fd=folder_fd)


def _copy(source_fd: int, target_fd: int, sha256: str, go_on: Callable[[], None]) -> None:
    synced = 0

    def sync_and_go_on(position: int) -> None:
        nonlocal synced
        go_on()
        if position - synced >= SYNC_BYTES:
            os.fdatasync(target_fd)
            synced = position

    try:
        copied = copy_file(source_fd, target_fd, sync_and_go_on)
    except (FileChangedError, FileUnreadableError) as error:
        raise OSError(errno.EIO, "the source cannot be read") from error
    if copied.sha256 != sha256:
        raise OSError(errno.EIO, "what was written is not what is read")


def _sync_names(folder_fd: int) -> None:
    """Make a folder's names durable, where its file system has such a thing."""
    try:
        os.fsync(folder_fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
