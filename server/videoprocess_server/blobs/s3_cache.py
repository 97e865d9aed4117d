"""Which blobs of S3 are at hand as local files: bounded, the least recently used goes first, never what is in use."""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

_OPEN_FILES = Path("/proc/self/fd")


@dataclass(frozen=True)
class _Entry:
    size_bytes: int
    #: that the file was seen to have when it last changed; "" where nobody has looked since the start
    sha256: str
    state: tuple[int, ...]


class FileCache:
    """Keeps account of files below a folder; a file's name is its path below. Thread-safe.

    What is written there and not `admitted`, or `excluded` since, is not its business, and is never taken away.

    Args:
        root: of the files.
        folders: whose files of an earlier run are found again.
        max_bytes: of all files together; more only while more are in use. 0 is half of what the disk has for them now.
    """

    def __init__(self, root: Path, folders: tuple[str, ...], max_bytes: int) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._size_bytes = 0
        #: names of files and folders → how many use them
        self._used: Counter[str] = Counter()
        for path, status in sorted(_files(root, folders), key=lambda found: found[1].st_mtime):
            self._put(str(path.relative_to(root)), "", status)
        self._max_bytes = max_bytes or (self._size_bytes + _free_bytes(root)) // 2
        self._is_exceeded = False
        self.make_room(0)

    @property
    def size_bytes(self) -> int:
        """Of all files."""
        return self._size_bytes

    def sha256(self, name: str) -> str:
        """Return the digest that a file was admitted with; "" where it has changed since, or was not."""
        with self._lock:
            entry = self._entries.get(name)
            if entry is None or entry.state != _state(self._root / name):
                return ""
            self._entries.move_to_end(name)
            return entry.sha256

    def admit(self, name: str, sha256: str) -> None:
        """Take a file in that was seen to have this digest, "" where nobody has looked; where there is no file, nothing."""
        with self._lock, suppress(FileNotFoundError):
            self._drop(name)
            self._put(name, sha256, (self._root / name).stat())
            self._make_room(0)

    def exclude(self, name: str) -> None:
        """A file is written to from now on."""
        with self._lock:
            self._drop(name)

    def forget(self, name: str) -> None:
        """A file, or a folder of files, is gone."""
        with self._lock:
            for each in [each for each in self._entries if each == name or each.startswith(f"{name}/")]:
                self._drop(each)

    def make_room(self, size_bytes: int) -> None:
        """Take files away so that one of this size fits."""
        with self._lock:
            self._make_room(size_bytes)

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """While within, a file, or all of a folder, stays."""
        with self._lock:
            self._used[name] += 1
        try:
            yield
        finally:
            with self._lock:
                self._used[name] -= 1
                if not self._used[name]:
                    del self._used[name]
                self._make_room(0)

    def _put(self, name: str, sha256: str, status: os.stat_result) -> None:
        self._entries[name] = _Entry(status.st_size, sha256, _state_of(status))
        self._size_bytes += status.st_size

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self._size_bytes -= entry.size_bytes

    def _make_room(self, size_bytes: int) -> None:
        was_exceeded, self._is_exceeded = self._is_exceeded, False
        if self._size_bytes + size_bytes <= self._max_bytes:
            return
        opened = _open_here()
        for name in list(self._entries):
            if self._size_bytes + size_bytes <= self._max_bytes:
                return
            if self._is_used(name) or str(self._root / name) in opened:
                continue
            with suppress(FileNotFoundError):
                (self._root / name).unlink()
            self._drop(name)
        self._is_exceeded = True
        if not was_exceeded:
            log.warning("cache_exceeded", size_bytes=self._size_bytes + size_bytes, max_bytes=self._max_bytes)

    def _is_used(self, name: str) -> bool:
        parts = name.split("/")
        return any("/".join(parts[:end]) in self._used for end in range(1, len(parts) + 1))


def _open_here() -> set[str]:
    """Return the paths of the files that this process has open; tasks' sources are `using` theirs."""
    paths = set()
    for entry in _OPEN_FILES.iterdir():
        with suppress(OSError):
            paths.add(str(entry.readlink()))
    return paths


def _free_bytes(root: Path) -> int:
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize


def _state(path: Path) -> tuple[int, ...] | None:
    try:
        return _state_of(path.stat())
    except OSError:
        return None


def _state_of(status: os.stat_result) -> tuple[int, ...]:
    """Return what differs once anybody has written to a file."""
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _files(root: Path, folders: tuple[str, ...]) -> Iterator[tuple[Path, os.stat_result]]:
    for folder in folders:
        for path in (root / folder).rglob("*"):
            if path.is_file():
                yield path, path.stat()
