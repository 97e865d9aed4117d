"""The ways of files to a node and back: copied through the gateway, or seen by all nodes anyway."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from videoprocess_server.execution.gateway import CallFailedError
from videoprocess_server.execution.handlers import disk_refusal
from videoprocess_server.model.tasks import SegmentDone

#: what one call carries, an object of Ray's store: small enough that a freeze behind it is in time on a slow network
CHUNK_BYTES = 1 << 20
#: times that a file is sent or fetched whose bytes come out as others
_TRIES = 2
#: how soon a worker that waits for a file finds that it is to end
_LOOK_SECONDS = 0.2
#: the longest unused are forgotten; one that is in use then may be sent twice
_REMEMBERED_FILES = 4096
_DAMAGED = "CopyDamagedError"


class NodeLink(Protocol):
    """The way to a worker's node."""

    node: str

    def call(self, what: str, *arguments: object) -> Any:  # noqa: ANN401 - of the call
        """Ask the node; EOFError, CallFailedError."""
        ...

    @property
    def stands(self) -> bool:
        """Whether the worker is frozen, or is to end."""
        ...

    def go_on(self) -> None:
        """Wait while the worker is frozen; EOFError once it is to end."""
        ...


class Copies:
    """Which nodes were sent which files, as far as is remembered: each file goes to a node once, however many workers want it."""

    def __init__(self) -> None:
        #: file → node → held while it is sent there
        self._files: dict[str, dict[str, threading.Lock]] = {}
        self._lock = threading.Lock()

    def sending(self, node: str, key: str) -> threading.Lock:
        """Return what is held while a file is sent to a node."""
        with self._lock:
            nodes = self._files[key] = self._files.pop(key, {})
            if len(self._files) > _REMEMBERED_FILES:
                del self._files[next(iter(self._files))]
            return nodes.setdefault(node, threading.Lock())

    def are_elsewhere(self, node: str, key: str) -> bool:
        """Return whether others were sent a file, and this node was not."""
        with self._lock:
            nodes = self._files.get(key, {})
            return bool(nodes) and node not in nodes


class CopyingStager:
    """Sends files in chunks; a copy stays on the node, where the next task finds it.

    Args:
        link: to the worker's node.
        copies: of the executor.
    """

    def __init__(self, link: NodeLink, copies: Copies) -> None:
        self._link = link
        self._copies = copies

    def begin(self) -> None:
        """Note that the task before has ended, and what it read may go."""
        self._file("let_go")

    def is_elsewhere(self, fd: int) -> bool:
        """Return whether another node has the open source, and this one has not."""
        return self._copies.are_elsewhere(self._link.node, _key(fd))

    def fetch_source(self, fd: int) -> str:
        """Have the open source on the node; return its path there."""
        return self._fetch(fd, "sources")

    def fetch(self, path: str) -> str:
        """Have a file of the service on the node; return its path there."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return self._fetch(fd, "inputs")
        finally:
            os.close(fd)

    def place(self, path: str) -> str:
        """Return the path on the node of a file that the task writes."""
        return str(self._file("output", path))

    def deliver(self, done: SegmentDone, path: str) -> None:
        """Have what the node wrote at the service's own path, verified and durable."""
        for _ in range(_TRIES):
            if self._receive(done, path):
                self._link.call("file", "discard", done.path)
                return
            Path(path).unlink()
        raise EOFError(f"segment {done.index} came damaged from its node {_TRIES} times")

    def _receive(self, done: SegmentDone, path: str) -> bool:
        digest = hashlib.sha256()
        try:
            with Path(path).open("xb") as file:
                for offset in range(0, done.size_bytes, CHUNK_BYTES):
                    self._link.go_on()
                    data = self._link.call("file", "read", done.path, offset, CHUNK_BYTES)
                    if not data:
                        break
                    file.write(data)
                    digest.update(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise disk_refusal(error) or error from error
        _fsync_folder(Path(path).parent)
        return digest.hexdigest() == done.sha256

    def _fetch(self, fd: int, kind: str) -> str:
        key, size = _key(fd), os.fstat(fd).st_size
        lock = self._copies.sending(self._link.node, key)
        for _ in range(_TRIES):
            there = None
            while there is None:
                self._link.go_on()
                if lock.acquire(timeout=_LOOK_SECONDS):
                    try:
                        there = self._file("find", key) or self._send(fd, key, kind, size)
                    finally:
                        lock.release()
            if there:
                return there
        raise EOFError(f"a file arrived damaged at its node {_TRIES} times")

    def _send(self, fd: int, key: str, kind: str, size: int) -> str | None:
        """Send a file; return its path on the node, "" if other bytes arrived, None if the worker is frozen meanwhile."""
        digest = hashlib.sha256()
        try:
            self._link.call("file", "begin", key, kind, size)
            for offset in range(0, size, CHUNK_BYTES):
                if self._link.stands:
                    return None
                data = os.pread(fd, min(CHUNK_BYTES, size - offset), offset)
                digest.update(data)
                self._link.call("file", "append", key, data)
            return str(self._file("seal", key, digest.hexdigest()))
        except CallFailedError as error:
            raise disk_refusal(OSError(error.errno, str(error))) or EOFError(str(error)) from error
        except EOFError as error:
            if str(error).startswith(_DAMAGED):
                return ""
            raise

    def _file(self, what: str, *arguments: object) -> str:
        return str(self._link.call("own_file", what, *arguments) or "")


class SharedStager:
    """Names files as the nodes see them; a source that lies elsewhere is copied.

    Args:
        data_dir: of the service.
        mount: where all nodes see it.
        elsewhere: for what lies beside it.
    """

    def __init__(self, data_dir: Path, mount: Path, elsewhere: CopyingStager) -> None:
        self._data_dir = data_dir.resolve()
        self._mount = mount
        self._elsewhere = elsewhere

    def begin(self) -> None:
        """Note that the task before has ended, and what it read may go."""
        self._elsewhere.begin()

    def is_elsewhere(self, fd: int) -> bool:
        """Return whether another node has the open source, and this one has not."""
        return self._elsewhere.is_elsewhere(fd)

    def fetch_source(self, fd: int) -> str:
        """Return the source's path on the node."""
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_relative_to(self._data_dir) and path.exists():
            return self.place(str(path))
        return self._elsewhere.fetch_source(fd)

    def fetch(self, path: str) -> str:
        """Return the file's path on the node."""
        return self.place(path)

    def place(self, path: str) -> str:
        """Return the file's path on the node; what lies beside the data directory is what it is."""
        with_links_followed = Path(os.path.realpath(path)) if path.startswith("/") else Path(path)
        if not with_links_followed.is_relative_to(self._data_dir):
            return path
        return str(self._mount / with_links_followed.relative_to(self._data_dir))

    def deliver(self, done: SegmentDone, path: str) -> None:
        """Return once the file is seen here as the node wrote it.

        Raises:
            EOFError: it is not.
        """
        with Path(path).open("rb") as file:  # NFS looks anew whenever a file is opened
            if os.fstat(file.fileno()).st_size != done.size_bytes:
                raise EOFError(f"{path} is not what its node wrote: is {self._mount} the data directory?")


NewStager = Callable[[NodeLink], CopyingStager | SharedStager]


def _key(fd: int) -> str:
    """Return what names a file's content without reading it: which file it is, and when it changed."""
    found = os.fstat(fd)
    parts = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return "-".join(f"{part:x}" for part in parts)


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
