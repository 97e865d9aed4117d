"""The data directory: made if missing, and one service at a time has it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

LOCK_NAME = "lock"
DATABASE_NAME = "videoprocess.sqlite3"
DATABASE_ID_NAME = "database-id"
REPLICA_ID_NAME = "replica-id"
_LOCK_TRIES, _LOCK_PAUSE_SECONDS = 5, 0.02
DIRECTORY_MODE = 0o700  # uploads are private to the service
_NO_DIRECTORY = ": that is a file; name a directory with --data-dir"
_NOT_WRITABLE = ": let the service's user write there, or choose another --data-dir"
#: why the system refuses → what to do
_REMEDIES: Final[Mapping[int, str]] = {
    errno.EEXIST: _NO_DIRECTORY,
    errno.ENOTDIR: _NO_DIRECTORY,
    errno.EACCES: _NOT_WRITABLE,
    errno.EPERM: _NOT_WRITABLE,
    errno.EROFS: _NOT_WRITABLE,
    errno.ENOENT: ": nothing can be made there; choose another --data-dir",
    errno.ENOSPC: ": free space on its disk, or choose another --data-dir",
}


class DataDirectoryError(Exception):
    """The data directory cannot be used; the text says why and what to do."""


class DataDirectory:
    """Holds an exclusive lock on the directory as long as it is open. The lock goes with the process, however that ends."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            made = [folder for folder in self.path.parents if not folder.exists()]
            self.path.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            for folder in (self.path, *made):
                _sync(folder.parent)  # its name, if it was made just now
            self._fd = os.open(self.path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "")
            raise DataDirectoryError(f"data directory {self.path}: {error.strerror}{remedy}") from error
        try:
            _lock(self._fd)
        except OSError as error:
            os.close(self._fd)
            raise DataDirectoryError(
                f"data directory {self.path} is in use by another videoprocess-server: stop it, or choose another --data-dir"
            ) from error

    @property
    def database(self) -> Path:
        """Where the rows are."""
        return self.path / DATABASE_NAME

    @property
    def database_id(self) -> str:
        """See `find_database_id`."""
        return find_database_id(self.path)

    @property
    def replica_id(self) -> str:
        """What the service with this directory is called among others with the same rows, in each of its lives."""
        if not (found := find_replica_id(self.path)):
            found = uuid.uuid4().hex
            self._note(REPLICA_ID_NAME, found)
        return found

    def note_database(self, database_id: str) -> None:
        """Keep, durably, which rows elsewhere these files belong to from now on."""
        self._note(DATABASE_ID_NAME, database_id)

    def _note(self, name: str, text: str) -> None:
        path = self.path / name
        part = path.with_suffix(".part")
        with part.open("w", encoding="ascii") as file:
            file.write(f"{text}\n")
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)
        _sync(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._fd)


def find_database_id(path: Path) -> str:
    """Return which rows elsewhere a data directory's files belong to; "" where they are here, or there were none yet."""
    return _find(path / DATABASE_ID_NAME)


def find_replica_id(path: Path) -> str:
    """Return what the service with this data directory is called among others with the same rows; "" where it was none yet."""
    return _find(path / REPLICA_ID_NAME)


def _find(path: Path) -> str:
    """Return what was noted there; "" where nothing was."""
    try:
        return path.read_text("ascii").strip()
    except FileNotFoundError:
        return ""


def _lock(fd: int) -> None:
    """Take the lock; a support-dump looks at it for an instant, so it is tried a few times."""
    for _ in range(_LOCK_TRIES - 1):
        with suppress(OSError):
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(_LOCK_PAUSE_SECONDS)
    return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
