"""The service's own files: uploads that grow, segments and results that appear whole.

A blob has a kind and a key, which the service drew itself: neither ever comes from a caller.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from typing import Protocol


class BlobKind(Enum):
    """The folders of the data directory."""

    UPLOAD = "uploads"
    SEGMENT = "segments"
    RESULT = "results"
    WORK = "work"


class BlobStoreFullError(Exception):
    """No space left; nothing that was there before is lost."""


class BlobStore(Protocol):
    """Keeps blobs. Synchronous and thread-safe."""

    def append(self, kind: BlobKind, key: str, offset: int, data: bytes) -> int:
        """Write at the end of a blob, which begins to exist; return its new size.

        Raises:
            ValueError: `offset` is not its size.
            BlobStoreFullError: nothing of `data` counts; the size is as before.
        """
        ...

    def size(self, kind: BlobKind, key: str) -> int | None:
        """Return the size in bytes; None where there is no such blob."""
        ...

    def sync(self, kind: BlobKind, key: str) -> None:
        """Make its bytes and its name durable."""
        ...

    def sha256(self, kind: BlobKind, key: str) -> str:
        """Return the SHA-256 of its bytes in hex. FileNotFoundError where there is none."""
        ...

    def open(self, kind: BlobKind, key: str) -> int:
        """Return a new read-only descriptor. FileNotFoundError where there is none."""
        ...

    def path(self, kind: BlobKind, key: str) -> Path:
        """Return where a worker writes or reads it; its folder exists."""
        ...

    def publish(self, work_key: str, kind: BlobKind, key: str) -> None:
        """Move a finished, fsynced WORK blob to its name, durably. FileExistsError if the name is taken."""
        ...

    def delete(self, kind: BlobKind, key: str) -> None:
        """Delete a blob, or a folder of blobs; unknown keys are ignored."""
        ...

    def keys(self, kind: BlobKind) -> Sequence[str]:
        """Return the top-level keys there are."""
        ...

    def free_bytes(self) -> int:
        """Return how many bytes may still be written."""
        ...

    def ping(self) -> None:
        """Return if blobs can be written; OSError otherwise."""
        ...
