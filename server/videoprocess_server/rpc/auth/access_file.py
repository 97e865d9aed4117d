"""Files that decide who gets in: read with care, and read again when they change."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import structlog

log = structlog.get_logger(__name__)

MAX_BYTES = 4 * 1024 * 1024
#: a file that was changed a moment ago may change once more without another time stamp
SETTLED_NANOSECONDS = 2_000_000_000

_Content = TypeVar("_Content")


class _Stamp(NamedTuple):
    """What changes when a file changes."""

    change_time_ns: int
    modify_time_ns: int
    size_bytes: int
    inode: int


class AccessFileError(Exception):
    """A file that decides who gets in cannot be used; the text is one line that names it and says why."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class Secrecy(Enum):
    """What others on the machine may do with a file; the value is the bits that its mode must not have."""

    #: others may not touch it, its group may read it
    SECRET = stat.S_IRWXO | stat.S_IWGRP
    #: everybody may read it
    PUBLIC = stat.S_IWOTH | stat.S_IWGRP


@dataclass(frozen=True)
class AccessFile:
    """One file."""

    path: Path
    secrecy: Secrecy

    def stamp(self) -> _Stamp:
        """Return what changes when the file changes.

        Raises:
            AccessFileError: there is no such file.
        """
        try:
            return _stamp(self.path.stat())
        except OSError as error:
            raise _unreadable(self.path, error) from error

    def read(self) -> bytes:
        """Return the file's bytes.

        Raises:
            AccessFileError: it cannot be read, is no file, is too large, or is open to others.
        """
        try:
            # a FIFO must not hold the service up
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb") as file:
                self._check(os.fstat(descriptor))
                content = file.read(MAX_BYTES + 1)
        except OSError as error:
            raise _unreadable(self.path, error) from error
        if len(content) > MAX_BYTES:
            raise AccessFileError(self.path, f"has more than {MAX_BYTES} bytes")
        return content

    def _check(self, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise AccessFileError(self.path, "is not a regular file")
        too_open = stat.S_IMODE(status.st_mode) & self.secrecy.value
        if too_open:
            mode, better = stat.S_IMODE(status.st_mode), stat.S_IMODE(status.st_mode) & ~self.secrecy.value
            raise AccessFileError(self.path, f"is open to others (mode {mode:o}): chmod {better:o} it")


class Reloaded(Generic[_Content]):
    """What some files hold together, read again when one of them changes. Any thread may ask.

    A bad file changes nothing: what was read before stays, and the log tells why.

    Args:
        files: the files.
        parse: makes the content of the files' bytes, in their order.
        wall_nanoseconds: the clock that files' time stamps are made with.

    Raises:
        AccessFileError: the files cannot be used as they are now.
    """

    def __init__(
        self,
        files: Sequence[AccessFile],
        parse: Callable[[Sequence[bytes]], _Content],
        wall_nanoseconds: Callable[[], int] = time.time_ns,
    ) -> None:
        self._files = tuple(files)
        self._parse = parse
        self._wall_nanoseconds = wall_nanoseconds
        self._lock = threading.Lock()
        self._seen: list[_Stamp] = []
        self._bytes: list[bytes] = []
        self._problem = ""
        self._content = self._read()

    def current(self) -> _Content:
        """Return what the files hold, or held when they could last be used."""
        with self._lock:
            try:
                stamps = [file.stamp() for file in self._files]
                if stamps != self._seen or self._may_change_unseen(stamps):
                    self._seen = stamps
                    self._content = self._read()
                    self._problem = ""
            except AccessFileError as error:
                self._tell(str(error))
            return self._content

    def _may_change_unseen(self, stamps: Sequence[_Stamp]) -> bool:
        newest = self._wall_nanoseconds() - SETTLED_NANOSECONDS
        return any(stamp.change_time_ns > newest for stamp in stamps)

    def _read(self) -> _Content:
        contents = [file.read() for file in self._files]
        if contents == self._bytes:
            return self._content
        try:
            content = self._parse(contents)
        except AccessFileError:
            raise
        except Exception as error:
            # of a library, about something that nobody here has thought of
            raise AccessFileError(
                self._files[0].path, f"cannot be understood ({type(error).__name__})"
            ) from error
        if self._bytes:
            log.info("access_files_read", files=[str(file.path) for file in self._files])
        self._bytes = contents
        return content

    def _tell(self, problem: str) -> None:
        if problem != self._problem:  # once, not at every call
            log.error("access_files_not_used", problem=problem, remedy="what was read before stays in force")
        self._problem = problem


def _stamp(status: os.stat_result) -> _Stamp:
    return _Stamp(status.st_ctime_ns, status.st_mtime_ns, status.st_size, status.st_ino)


def _unreadable(path: Path, error: OSError) -> AccessFileError:
    return AccessFileError(path, error.strerror or type(error).__name__)
