"""Copies an open file that a stranger may hold too: never by its offset, in pieces, and with the digest of what was kept.

Where the file system can, nothing is copied at all: both files share their blocks (a reflink). Else the kernel copies, and
where it does not, this process. A hole is not looked for, since that would move the offset, which is shared.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash

#: copied between two looks at whether to go on
PIECE_BYTES = 4 << 20
#: written between two syncs, so that the last one does not take for ever
SYNC_BYTES = 64 << 20

_FICLONE = 0x40049409  # linux/fs.h: _IOW(0x94, 9, int)
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: called before each piece with the bytes copied so far; what it raises ends the copy
GoOn = Callable[[int], None]


class FileChangedError(Exception):
    """The file was changed while it was copied."""


class FileUnreadableError(Exception):
    """The file gives no bytes."""


@dataclass(frozen=True, kw_only=True)
class FileCopy:
    """What was kept."""

    size_bytes: int
    #: in hex
    sha256: str


def copy_file(source: int, target: int, go_on: GoOn) -> FileCopy:
    """Copy a regular file into a new one, durably.

    Args:
        source: readable; its offset stays where it is.
        target: an empty file, open for reading and writing.
        go_on: see `GoOn`.

    Raises:
        FileChangedError: what was copied is no state that the file had.
        FileUnreadableError: it cannot be read.
        OSError: the target cannot be written; ENOSPC and the like where there is no space.
    """
    before = _status(source)
    copy = _Copy(source, target, before.st_size)
    digest = copy.run(go_on)
    after = _status(source)
    if _times(after)[:2] != _times(before)[:2]:
        raise FileChangedError
    if _times(after) != _times(before) and copy.digest_of(source, go_on) != digest:
        # Its change time alone moved: it was renamed, or somebody wrote and set the time of that back.
        raise FileChangedError
    return FileCopy(size_bytes=before.st_size, sha256=digest)


def _status(source: int) -> os.stat_result:
    try:
        return os.fstat(source)
    except OSError as error:
        raise FileUnreadableError(error.strerror) from error


def _times(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns


class _Copy:
    """One copy under way."""

    def __init__(self, source: int, target: int, size_bytes: int) -> None:
        self._source = source
        self._target = target
        self._size_bytes = size_bytes
        #: starts at a page, which files opened with O_DIRECT ask for
        self._buffer = mmap.mmap(-1, PIECE_BYTES)
        self._kernel_copies = True

    def run(self, go_on: GoOn) -> str:
        """Copy, and return the SHA-256 of what the target then has."""
        go_on(0)
        is_cloned = self._clone()
        digest, position, synced = hashlib.sha256(), 0, 0
        while position < self._size_bytes:
            go_on(position)
            if not is_cloned:
                self._copy_piece(position)
            position += self._add_piece(digest, self._target, position)
            if not is_cloned and position - synced >= SYNC_BYTES:
                os.fdatasync(self._target)
                synced = position
        go_on(position)
        os.fsync(self._target)
        return digest.hexdigest()

    def digest_of(self, file: int, go_on: GoOn) -> str:
        """Return the SHA-256 of a file's bytes, as many as were copied."""
        digest, position = hashlib.sha256(), 0
        while position < self._size_bytes:
            go_on(position)
            position += self._add_piece(digest, file, position)
        return digest.hexdigest()

    def _clone(self) -> bool:
        try:
            fcntl.ioctl(self._target, _FICLONE, self._source)
        except OSError:
            return False  # another file system, or one that cannot
        if os.fstat(self._target).st_size != self._size_bytes:
            raise FileChangedError
        return True

    def _copy_piece(self, position: int) -> None:
        end = min(position + PIECE_BYTES, self._size_bytes)
        while self._kernel_copies and position < end:
            position += self._copy_by_kernel(position, end - position)
        while position < end:
            count = min(self._read(self._source, position), end - position)
            written = 0
            while written < count:
                piece = memoryview(self._buffer)[written:count]
                written += os.pwrite(self._target, piece, position + written)
            position += count

    def _copy_by_kernel(self, position: int, count: int) -> int:
        """Return how much it copied; 0 once it cannot."""
        try:
            copied = os.copy_file_range(self._source, self._target, count, position, position)
        except OSError as error:
            if error.errno in _FULL:
                raise
            copied = 0  # not between these file systems, not from this kind of file, or it cannot be read
        self._kernel_copies = copied > 0
        return copied

    def _read(self, file: int, position: int) -> int:
        """Fill the buffer from a place of a file; return how much there was, at least one byte."""
        try:
            count = os.preadv(file, [self._buffer], position)
        except OSError as error:
            raise FileUnreadableError(error.strerror) from error
        if count == 0:
            raise FileChangedError  # it is shorter than it was
        return count

    def _add_piece(self, digest: _Hash, file: int, position: int) -> int:
        """Add a file's next bytes to a digest; return how many."""
        count = min(self._read(file, position), self._size_bytes - position)
        digest.update(memoryview(self._buffer)[:count])
        return count
