"""The data directory: made if missing, and one service at a time has it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

LOCK_NAME = "lock"
DATABASE_NAME = "videoprocess.sqlite3"
DIRECTORY_MODE = 0o700  # uploads are private to the service


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
            raise DataDirectoryError(f"data directory {self.path}: {error.strerror}") from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            raise DataDirectoryError(
                f"data directory {self.path} is in use by another videoprocess-server: stop it, or choose another --data-dir"
            ) from error

    @property
    def database(self) -> Path:
        """Where the rows are."""
        return self.path / DATABASE_NAME

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._fd)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
