"""Short names for what tests of blob stores do."""

from __future__ import annotations

import os

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore

UPLOAD, SEGMENT, RESULT, WORK = BlobKind.UPLOAD, BlobKind.SEGMENT, BlobKind.RESULT, BlobKind.WORK


def content(blobs: BlobStore, kind: BlobKind, key: str) -> bytes:
    with os.fdopen(blobs.open(kind, key), "rb") as file:
        return file.read()


def finished(blobs: BlobStore, key: str, data: bytes = b"whole") -> str:
    """Write a WORK blob as a worker does."""
    blobs.path(WORK, key).write_bytes(data)
    return key
