"""The service's own files: uploads that grow, segments and results that appear whole.

A blob has a kind and a key, which the service drew itself: neither ever comes from a caller. Wherever blobs are kept, workers read
and write local files: `path` says where a new one is made, `keep` and `publish` make it durable, `bring` has one at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from enum import Enum
from pathlib import Path
from typing import Protocol

#: called again and again while something takes long; raises where it is not to go on
GoOn = Callable[[], None]


class BlobKind(Enum):
    """The folders of the data directory. What is in WORK is of this machine and this run."""

    UPLOAD = "uploads"
    SEGMENT = "segments"
    RESULT = "results"
    WORK = "work"


class BlobStoreFullError(Exception):
    """No space left; nothing that was there before is lost."""


class BlobStoreUnavailableError(OSError):
    """The store does not answer, or refuses; nothing is known of its blobs. It may come back."""


class BlobDamagedError(FileNotFoundError):
    """What is stored is not what was kept: as good as gone."""


class BlobStore(Protocol):
    """Keeps blobs. Synchronous and thread-safe.

    Every method may raise BlobStoreUnavailableError, but for WORK.
    """

    @property
    def commit_bytes(self) -> int:
        """Of what was appended without `sync`, so many bytes at most are lost if the service dies."""
        ...

    def append(self, kind: BlobKind, key: str, offset: int, data: bytes) -> int:
        """Write at the end of an UPLOAD or WORK blob, which begins to exist; return its new size.

        Raises:
            ValueError: `offset` is not its size: another has written it.
            BlobStoreFullError: nothing of `data` counts; the size is as before.
        """
        ...

    def size(self, kind: BlobKind, key: str) -> int | None:
        """Return the size in bytes that a restart would find; None where there is no such blob."""
        ...

    def sync(self, kind: BlobKind, key: str) -> None:
        """Make the bytes and the name of an UPLOAD or WORK blob durable. FileNotFoundError where there is none."""
        ...

    def let_go(self, kind: BlobKind, key: str) -> None:
        """Nobody here writes an UPLOAD blob any more, until somebody appends to it. What is not synced may be gone."""
        ...

    def sha256(self, kind: BlobKind, key: str) -> str:
        """Return the SHA-256 of its bytes in hex. FileNotFoundError where there is none."""
        ...

    def open(self, kind: BlobKind, key: str) -> int:
        """Return a new read-only descriptor, which the caller closes. FileNotFoundError where there is none."""
        ...

    def path(self, kind: BlobKind, key: str) -> Path:
        """Return where a worker writes a new blob; its folder exists."""
        ...

    def bring(self, kind: BlobKind, key: str, go_on: GoOn = ...) -> Path:
        """Return where a worker reads a blob; it is there. FileNotFoundError where there is none.

        Args:
            kind: of the blob.
            key: of the blob.
            go_on: see there.
        """
        ...

    def using(self, kind: BlobKind, key: str) -> AbstractContextManager[None]:
        """While within, this blob, or all of a folder, stays at hand once it is."""
        ...

    def keep(self, kind: BlobKind, key: str, sha256: str) -> Future[None]:
        """Make a finished blob durable whole, beside the caller: before this is done, no row may name it.

        Args:
            kind: SEGMENT: a worker has written and fsynced the file at `path`. UPLOAD: it is synced, and grows no more.
            key: of the blob.
            sha256: of its bytes, in hex.
        """
        ...

    def publish(self, work_key: str, kind: BlobKind, key: str, sha256: str, go_on: GoOn = ...) -> None:
        """Move a finished, fsynced WORK blob to its name, durably.

        Args:
            work_key: of the WORK blob.
            kind: RESULT or UPLOAD.
            key: its name from now on.
            sha256: of its bytes, in hex.
            go_on: see there; where it raises, the WORK blob is as before.

        Raises:
            FileExistsError: the name is taken.
            FileNotFoundError: there is no such WORK blob.
        """
        ...

    def delete(self, kind: BlobKind, key: str) -> None:
        """Delete a blob, or a folder of blobs; unknown keys are ignored."""
        ...

    def keys(self, kind: BlobKind) -> Sequence[str]:
        """Return the top-level keys there are, sorted."""
        ...

    def untouched(self, kind: BlobKind, keys: Sequence[str], seconds: float) -> Sequence[str]:
        """Return those of the keys, of blobs or folders, below which nothing was written for so long, by the store's own clock."""
        ...

    def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        ...

    def ping(self) -> None:
        """Return if blobs can be written; OSError otherwise."""
        ...

    def close(self) -> None:
        """End what goes on beside callers; nobody calls anything any more."""
        ...


def go_on_always() -> None:
    """Whoever asked waits until it is done."""
