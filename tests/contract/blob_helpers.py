"""Short names for what tests of blob stores do."""

from __future__ import annotations

import hashlib
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


def publish(blobs: BlobStore, work_key: str, kind: BlobKind, key: str) -> None:
    """Publish a WORK blob with its digest."""
    sha256 = blobs.sha256(WORK, work_key) if blobs.size(WORK, work_key) is not None else ""
    blobs.publish(work_key, kind, key, sha256)


def put(blobs: BlobStore, kind: BlobKind, key: str, data: bytes = b"x") -> None:
    """Have a durable blob, made as the engine makes those of its kind."""
    if kind is RESULT:
        publish(blobs, finished(blobs, f"work-{key}", data), RESULT, key)
    elif kind is SEGMENT:
        blobs.path(SEGMENT, key).write_bytes(data)
        blobs.keep(SEGMENT, key, hashlib.sha256(data).hexdigest()).result()
    else:
        blobs.append(kind, key, 0, data)
        blobs.sync(kind, key)
