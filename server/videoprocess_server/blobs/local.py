"""Blobs as files in a folder of the local file system."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path

from videoprocess_server.blobs import blob_keys
from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreFullError, GoOn, go_on_always

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: the kernel writes so much to the disk as soon as it has come, so that `sync` has little left to wait for
_WRITE_OUT_BYTES = 8 << 20

#: appends to different keys rarely wait for each other, and the locks never grow in number
_LOCK_COUNT = 64


class LocalBlobStore:
    """A BlobStore in a folder of its own, on a file system with hard links.

    A key is a path of names with "/" between; where others stand below it, it is a folder. Only `sync` and `publish`
    make bytes and names durable.

    Args:
        root: the folder; made if it is not there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._locks = tuple(threading.Lock() for _ in range(_LOCK_COUNT))
        for kind in BlobKind:
            _make_folder(self._root / kind.value)
            if kind is not BlobKind.WORK:
                # What a service that was killed has made there and not synced is built upon from now on.
                _fsync(self._root / kind.value, os.O_DIRECTORY)
        _fsync(self._root, os.O_DIRECTORY)

    @property
    def commit_bytes(self) -> int:
        """None: what was written stays when the service dies; a message that is being written may not."""
        return 0

    def append(self, kind: BlobKind, key: str, offset: int, data: bytes) -> int:
        """Write at the end of a blob and return its new size; see BlobStore."""
        path = self.path(kind, key)
        with self._lock_of(path):
            old_size = self.size(kind, key)
            if offset != (old_size or 0):
                raise ValueError(f"{key} has {old_size or 0} bytes, not {offset}")
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                _write_whole(fd, data, offset)
                _write_out(fd, offset, offset + len(data))
            except OSError as error:
                os.ftruncate(fd, offset)
                if old_size is None:
                    path.unlink()
                if error.errno in _FULL:
                    raise BlobStoreFullError(f"no space for {len(data)} bytes") from error
                raise
            finally:
                os.close(fd)
        return offset + len(data)

    def size(self, kind: BlobKind, key: str) -> int | None:
        """Return the size in bytes; None where there is no such blob."""
        try:
            status = os.lstat(self._path(kind, key))
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def sync(self, kind: BlobKind, key: str) -> None:
        """Make its bytes and its name durable, and the names of the folders it is in."""
        path = self._path(kind, key)
        _fsync(path, os.O_RDONLY)
        self._sync_folders(path.parent)

    def let_go(self, kind: BlobKind, key: str) -> None:
        """Nothing is held."""

    def sha256(self, kind: BlobKind, key: str) -> str:
        """Return the SHA-256 of its bytes in hex."""
        with open(self.open(kind, key), "rb", buffering=0) as file:  # noqa: PTH123  opens a descriptor, not a path
            return hashlib.file_digest(file, "sha256").hexdigest()

    def open(self, kind: BlobKind, key: str) -> int:
        """Return a new read-only descriptor, which the caller closes."""
        if self.size(kind, key) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        return os.open(self._path(kind, key), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def path(self, kind: BlobKind, key: str) -> Path:
        """Return where a worker writes a new blob; its folder exists, durably."""
        path = self._path(kind, key)
        _make_folder(path.parent)
        return path

    def bring(self, kind: BlobKind, key: str, go_on: GoOn = go_on_always) -> Path:  # noqa: ARG002  takes no time
        """Return where a worker reads a blob."""
        if self.size(kind, key) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
        return self._path(kind, key)

    def using(self, kind: BlobKind, key: str) -> AbstractContextManager[None]:  # noqa: ARG002  all is at hand always
        """Nothing is ever taken away."""
        return nullcontext()

    def keep(self, kind: BlobKind, key: str, sha256: str) -> Future[None]:  # noqa: ARG002  of a file that is durable
        """Return at once: what a worker has fsynced, and `sync` has, is durable."""
        kept: Future[None] = Future()
        kept.set_result(None)
        return kept

    def publish(
        self,
        work_key: str,
        kind: BlobKind,
        key: str,
        sha256: str,  # noqa: ARG002  the bytes stay where they are
        go_on: GoOn = go_on_always,  # noqa: ARG002  takes no time
    ) -> None:
        """Move a finished, fsynced WORK blob to its name, durably.

        A second name is made before the first is taken away: making it fails where the name is taken, which renaming
        would not. After a crash in between both are there: a repeated `publish` raises FileExistsError, and the WORK
        blob is the sweeper's.
        """
        source, target = self._path(BlobKind.WORK, work_key), self.path(kind, key)
        os.link(source, target, follow_symlinks=False)
        self._sync_folders(target.parent)
        source.unlink()  # a power loss may bring the name back; nothing is built upon those in WORK

    def delete(self, kind: BlobKind, key: str) -> None:
        """Delete a blob, or a folder of blobs; unknown keys are ignored."""
        path = self._path(kind, key)
        try:
            path.unlink()
        except IsADirectoryError:
            _remove_tree(path)
        except (FileNotFoundError, NotADirectoryError):
            return

    def keys(self, kind: BlobKind) -> Sequence[str]:
        """Return the top-level keys there are, sorted."""
        return sorted(entry.name for entry in (self._root / kind.value).iterdir())

    def untouched(self, kind: BlobKind, keys: Sequence[str], seconds: float) -> Sequence[str]:
        """Return those of the keys below which nothing was written for so long, by the file system's clock."""
        with tempfile.TemporaryFile(dir=self._root) as now:
            since = os.fstat(now.fileno()).st_mtime - seconds
        return [key for key in keys if _last_written(self._path(kind, key)) <= since]

    def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        status = os.statvfs(self._root)
        return status.f_bavail * status.f_frsize

    def ping(self) -> None:
        """Return if blobs can be written; OSError otherwise."""
        probe = self._root / ".ping"
        probe.write_bytes(b"ping")
        probe.unlink(missing_ok=True)

    def close(self) -> None:
        """Nothing goes on beside callers."""

    def _path(self, kind: BlobKind, key: str) -> Path:
        return self._root / kind.value / blob_keys.checked(key)

    def _lock_of(self, path: Path) -> threading.Lock:
        return self._locks[hash(path) % _LOCK_COUNT]

    def _sync_folders(self, folder: Path) -> None:
        """Make the names in a folder durable, and those of the folders above it; costs next to nothing if they are."""
        while folder != self._root.parent:
            _fsync(folder, os.O_DIRECTORY)
            folder = folder.parent


def _last_written(path: Path) -> float:
    """Return when anything of a file or a folder was written last, in seconds since 1970; 0 where there is nothing."""
    latest = 0.0
    for each in (path, *path.rglob("*")):
        with suppress(FileNotFoundError):
            latest = max(latest, each.lstat().st_mtime)
    return latest


def _write_whole(fd: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(fd, rest, offset)
        offset += written
        rest = rest[written:]


def _write_out(fd: int, offset: int, end: int) -> None:
    """Have the kernel begin to write the pieces that have become whole; does not wait for it."""
    begin, until = (position // _WRITE_OUT_BYTES * _WRITE_OUT_BYTES for position in (offset, end))
    if until > begin:
        os.posix_fadvise(fd, begin, until - begin, os.POSIX_FADV_DONTNEED)


def _make_folder(folder: Path) -> None:
    """Make a folder and those above it that are missing, each durably."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    _fsync(folder.parent, os.O_DIRECTORY)


def _fsync(path: Path, flags: int) -> None:
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _remove_tree(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        # Somebody else deletes in the same folder, or a worker that is dying still writes: go on until nothing is left.
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
        if folder.exists():
            _remove_tree(folder)
