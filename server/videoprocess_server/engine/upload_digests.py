"""SHA-256 of uploads that still grow, carried on from stream to stream: only what a restart forgot is read again, once."""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable

#: a digest that falls out is made anew from the stored bytes when its upload is finished
MAX_DIGESTS = 4096
_PIECE_BYTES = 4 << 20


class RunningDigest:
    """The SHA-256 of the first bytes of an upload. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hash = hashlib.sha256()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """How many bytes were taken in."""
        return self._size_bytes

    def add(self, offset: int, data: bytes) -> None:
        """Take in bytes that were stored; those behind a gap wait until `catch_up` reads them."""
        with self._lock:
            if offset == self._size_bytes:
                self._update(data)

    def catch_up(self, descriptor: int, size_bytes: int, may_go_on: Callable[[], None]) -> str:
        """Read what of the upload is missing, and return the digest of its first `size_bytes` in hex.

        What was read stays: a second call goes on where one was stopped.

        Args:
            descriptor: of the stored bytes.
            size_bytes: of the upload, at least what was taken in.
            may_go_on: called between two pieces; raises to stop it.
        """
        while True:
            with self._lock:
                missing = size_bytes - self._size_bytes
                if missing <= 0:
                    return self._hash.hexdigest()
                data = os.pread(descriptor, min(missing, _PIECE_BYTES), self._size_bytes)
                if not data:
                    raise OSError(f"an upload of {size_bytes} bytes ends at {self._size_bytes}")
                self._update(data)
            may_go_on()

    def _update(self, data: bytes) -> None:
        self._hash.update(data)
        self._size_bytes += len(data)


class RunningDigests:
    """Those of the uploads that were written last. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._digests: OrderedDict[str, RunningDigest] = OrderedDict()

    def of(self, upload_id: str, size_bytes: int) -> RunningDigest:
        """Return the digest of an upload; a new one has taken in nothing.

        Args:
            upload_id: of the upload.
            size_bytes: that are stored; a digest of more is of no use.
        """
        with self._lock:
            digest = self._digests.pop(upload_id, None)
            if digest is None or digest.size_bytes > size_bytes:
                digest = RunningDigest()
            self._digests[upload_id] = digest
            if len(self._digests) > MAX_DIGESTS:
                self._digests.popitem(last=False)
            return digest

    def forget(self, upload_id: str) -> None:
        """There is no upload of this id any more, or it is finished."""
        with self._lock:
            self._digests.pop(upload_id, None)
