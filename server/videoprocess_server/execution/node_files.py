"""The files of one node: copies of what tasks read, within a bound, and what tasks write until it is fetched."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import itertools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_LOCK_NAME = "lock"


class CopyDamagedError(Exception):
    """What arrived is not what was sent."""


@dataclass
class _Copy:
    path: Path
    size_bytes: int
    digest: Any = field(default_factory=hashlib.sha256)
    received_bytes: int = 0
    is_whole: bool = False
    #: workers whose tasks read it
    holders: set[int] = field(default_factory=set)


class NodeFiles:
    """A folder of its own beneath `parent`. Folders there whose owner was killed are removed.

    Whoever sends a copy sends it alone and from its beginning. Workers may write beside copies that they open by name, as
    they may beside the service's own files; sources are opened for them, and out of their reach.

    Args:
        parent: of the folders of all owners; made where it is missing.
        limit_bytes: of all copies together; those that nobody reads go, the longest unused first.

    Raises:
        OSError: nothing can be written there.
    """

    def __init__(self, parent: Path, limit_bytes: int) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _alone_in(parent):
            for orphan in parent.iterdir():
                _remove_unless_owned(orphan)
            self.folder = Path(tempfile.mkdtemp(dir=parent))
            self._lock_fd = _locked(self.folder)
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        #: the longest unused first
        self._copies: dict[str, _Copy] = {}
        self._numbers = itertools.count()
        for name in ("sources", "inputs", "outputs"):
            (self.folder / name).mkdir()

    def writable(self, worker: int) -> tuple[str, ...]:
        """Return the folders of a new worker's tasks."""
        outputs = self.folder / "outputs" / str(worker)
        outputs.mkdir()
        return str(self.folder / "inputs"), str(outputs)

    def output(self, worker: int, name: str) -> str:
        """Return a path that a task may write to; nothing is there."""
        return str(self.folder / "outputs" / str(worker) / f"{next(self._numbers)}-{Path(name).name}")

    def find(self, worker: int, key: str) -> str:
        """Return the path of a whole copy, kept until the worker lets it go; "" if there is none."""
        with self._lock:
            copy = self._copies.get(key)
            if copy is None or not copy.is_whole:
                return ""
            self._copies[key] = self._copies.pop(key)
            copy.holders.add(worker)
            return str(copy.path)

    def begin(self, key: str, kind: str, size_bytes: int) -> None:
        """Make room for a copy that is sent now.

        Args:
            key: names its content.
            kind: "sources" or "inputs".
            size_bytes: of it all.

        Raises:
            OSError: ENOSPC, the bound leaves no room.
        """
        with self._lock:
            self._drop(key)
            used = sum(copy.size_bytes for copy in self._copies.values())
            idle = [name for name, copy in self._copies.items() if copy.is_whole and not copy.holders]
            while used + size_bytes > self._limit_bytes and idle:
                used -= self._copies[idle[0]].size_bytes
                self._drop(idle.pop(0))
            if used + size_bytes > self._limit_bytes:
                raise OSError(errno.ENOSPC, "the node's copies in use leave no room within --ray-cache-bytes")
            path = self.folder / kind / str(next(self._numbers))
            path.touch(mode=0o600)
            self._copies[key] = _Copy(path, size_bytes)

    def append(self, key: str, data: bytes) -> None:
        """Add the next bytes."""
        copy = self._copies[key]
        with copy.path.open("ab") as file:
            file.write(data)
        copy.digest.update(data)
        copy.received_bytes += len(data)

    def seal(self, worker: int, key: str, sha256: str) -> str:
        """Return the path of the copy that is whole now; as `find` does.

        Raises:
            CopyDamagedError: it is not what was sent; it is removed.
        """
        copy = self._copies[key]
        if (copy.received_bytes, copy.digest.hexdigest()) != (copy.size_bytes, sha256):
            with self._lock:
                self._drop(key)
            raise CopyDamagedError(f"{copy.received_bytes} bytes came of {copy.size_bytes}, or other ones")
        copy.is_whole = True
        return self.find(worker, key)

    def let_go(self, worker: int) -> None:
        """Note that the worker's task reads nothing any more."""
        with self._lock:
            for copy in self._copies.values():
                copy.holders.discard(worker)

    def read(self, path: str, offset: int, size: int) -> bytes:
        """Return bytes of what a task wrote; fewer at the end."""
        with self._output(path).open("rb") as file:
            return os.pread(file.fileno(), size, offset)

    def discard(self, path: str) -> None:
        """Remove what a task wrote."""
        self._output(path).unlink(missing_ok=True)

    def forget(self, worker: int) -> None:
        """Remove what is left of a worker that is gone."""
        self.let_go(worker)
        shutil.rmtree(self.folder / "outputs" / str(worker), ignore_errors=True)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock_fd)

    def _output(self, path: str) -> Path:
        """Return the path of an output, which is no link: a worker that was taken over could have made one."""
        found = Path(path)
        if not found.resolve().is_relative_to((self.folder / "outputs").resolve()):
            raise PermissionError(errno.EACCES, "no output of a task", path)
        return found

    def _drop(self, key: str) -> None:
        copy = self._copies.pop(key, None)
        if copy is not None:
            copy.path.unlink(missing_ok=True)


def _locked(folder: Path) -> int:
    fd = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


@contextlib.contextmanager
def _alone_in(parent: Path) -> Iterator[None]:
    """Keep other owners from taking a folder that is just made for an orphan."""
    fd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _remove_unless_owned(folder: Path) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(folder / _LOCK_NAME, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(fd)
