"""URLs with which clients reach blobs without the service; a store may offer them."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from videoprocess_server.blobs.blob_store import BlobKind


@runtime_checkable
class SignsUrls(Protocol):
    """Signs URLs. Nobody is asked for that; thread-safe."""

    @property
    def commit_bytes(self) -> int:
        """Size in bytes of an upload's part, but for the last one."""
        ...

    def download_url(self, kind: BlobKind, key: str, seconds: float) -> str:
        """Return a URL to GET a blob of one object from, for so long."""
        ...

    def part_url(self, key: str, offset: int, seconds: float) -> str:
        """Return a URL to PUT an upload's part to that begins at this offset, for so long."""
        ...
