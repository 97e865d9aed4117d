"""Blobs as objects of an S3 bucket, with local files for those that are at hand."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from datetime import timedelta
from pathlib import Path

from videoprocess_server.blobs import blob_keys
from videoprocess_server.blobs.blob_store import BlobKind, BlobStoreUnavailableError, GoOn, go_on_always
from videoprocess_server.blobs.local import LocalBlobStore
from videoprocess_server.blobs.named_locks import NamedLocks
from videoprocess_server.blobs.s3_bucket import Bucket
from videoprocess_server.blobs.s3_cache import FileCache
from videoprocess_server.blobs.s3_fetch import Fetcher, Part
from videoprocess_server.blobs.s3_uploads import COMMIT_BYTES, Layout, S3Uploads

_STORED = (BlobKind.UPLOAD, BlobKind.SEGMENT, BlobKind.RESULT)
#: segments that are sent at once, and pieces that are read at once
_KEEPERS, _READERS = 2, 8
_PAUSE_SECONDS = 1.0
#: objects that one request deletes
_DELETED_AT_ONCE = 1000


class S3BlobStore:
    """A BlobStore in a bucket. Segments and results are an object each; uploads see `s3_uploads`; WORK is local.

    What is read is brought into the folder first and compared with the SHA-256 it was written with, once, and again if the file
    has changed since. Objects are never changed, and but for an upload's no two have the same name ever.

    Args:
        bucket: of the objects.
        root: the folder of WORK and of the files at hand.
        cache_bytes: of the files at hand; more only while more are in use.
        commit_bytes: see BlobStore.
    """

    def __init__(
        self, bucket: Bucket, root: Path, cache_bytes: int, commit_bytes: int = COMMIT_BYTES
    ) -> None:
        self._bucket = bucket
        self._local = LocalBlobStore(root)
        self._cache = FileCache(root.absolute(), tuple(kind.value for kind in _STORED), cache_bytes)
        self._uploads = S3Uploads(
            bucket, BlobKind.UPLOAD.value, lambda key: self._local.path(BlobKind.UPLOAD, key), commit_bytes
        )
        self._keepers = ThreadPoolExecutor(_KEEPERS, "s3-keep")
        self._readers = ThreadPoolExecutor(_READERS, "s3-read")
        self._fetcher = Fetcher(bucket, self._readers)
        self._commit_bytes = commit_bytes
        self._locks = NamedLocks()
        #: names of files that workers write and nobody has kept yet
        self._written: set[str] = set()
        self._written_lock = threading.Lock()
        self._closing = threading.Event()

    @property
    def commit_bytes(self) -> int:
        """Of what was appended without `sync`, so many bytes at most are lost if the service dies."""
        return self._commit_bytes

    def append(self, kind: BlobKind, key: str, offset: int, data: bytes) -> int:
        """Write at the end of a blob and return its new size; see BlobStore."""
        if kind is BlobKind.WORK:
            return self._local.append(kind, key, offset, data)
        name = _name(kind, key)
        with self._locks.of(name):
            self._cache.exclude(name)
            return self._uploads.append(key, offset, data)

    def size(self, kind: BlobKind, key: str) -> int | None:
        """Return the size in bytes that a restart would find; None where there is no such blob."""
        if kind is BlobKind.WORK:
            return self._local.size(kind, key)
        try:
            return self._layout(kind, key).size_bytes
        except FileNotFoundError:
            return None

    def sync(self, kind: BlobKind, key: str) -> None:
        """Make its bytes and its name durable."""
        name = _name(kind, key)
        if kind is BlobKind.WORK:
            self._local.sync(kind, key)
            return
        with self._locks.of(name):
            self._uploads.sync(key)

    def let_go(self, kind: BlobKind, key: str) -> None:
        """Nobody here writes an upload any more: its local file is one of those at hand, or deleted."""
        name = _name(kind, key)
        with self._locks.of(name):
            self._uploads.let_go(key)
            self._cache.admit(name, "")

    def sha256(self, kind: BlobKind, key: str) -> str:
        """Return the SHA-256 of its bytes in hex."""
        if kind is BlobKind.WORK:
            return self._local.sha256(kind, key)
        name = _name(kind, key)
        with self._cache.using(name):
            self.bring(kind, key)
            return self._cache.sha256(name) or self._local.sha256(kind, key)

    def open(self, kind: BlobKind, key: str) -> int:
        """Return a new read-only descriptor, which the caller closes."""
        if kind is BlobKind.WORK:
            return self._local.open(kind, key)
        with self._cache.using(_name(kind, key)):
            self.bring(kind, key)
            return self._local.open(kind, key)

    def path(self, kind: BlobKind, key: str) -> Path:
        """Return where a worker writes a new blob; its folder exists."""
        name = _name(kind, key)
        path = self._local.path(kind, key)
        if kind is not BlobKind.WORK:
            with self._written_lock:
                self._written.add(name)
        return path

    def bring(self, kind: BlobKind, key: str, go_on: GoOn = go_on_always) -> Path:
        """Return where a worker reads a blob; see BlobStore."""
        name = _name(kind, key)
        if kind is BlobKind.WORK:
            return self._local.bring(kind, key)
        with self._locks.of(name):
            if not self._cache.sha256(name):
                self._have(kind, key, go_on)
        return self._local.path(kind, key)

    def using(self, kind: BlobKind, key: str) -> AbstractContextManager[None]:
        """While within, this blob, or all of a folder, stays at hand once it is."""
        return self._cache.using(_name(kind, key))

    def keep(self, kind: BlobKind, key: str, sha256: str) -> Future[None]:
        """Make a finished blob durable whole, beside the caller; see BlobStore."""
        return self._keepers.submit(self._seal if kind is BlobKind.UPLOAD else self._put, kind, key, sha256)

    def adopt(self, kind: BlobKind, key: str, sha256: str) -> None:
        """Make a file durable that a service with local files has kept; nothing happens where it is already.

        Raises:
            BlobDamagedError: it has another digest.
            FileNotFoundError: there is no such file.
        """
        if kind is not BlobKind.UPLOAD:
            self._put(kind, key, sha256)
            return
        name = _name(kind, key)
        with self._locks.of(name):
            self._uploads.add_file(key, self._local.bring(kind, key), sha256, go_on_always)
            self._cache.admit(name, sha256)

    def publish(
        self, work_key: str, kind: BlobKind, key: str, sha256: str, go_on: GoOn = go_on_always
    ) -> None:
        """Move a finished, fsynced WORK blob to its name, durably; see BlobStore."""
        name = _name(kind, key)
        work = self._local.bring(BlobKind.WORK, work_key)
        with self._locks.of(name), self._cache.using(name):
            if kind is BlobKind.UPLOAD:
                self._uploads.add_file(key, work, sha256, go_on)
            else:
                self._bucket.put_file(name, work, sha256, go_on)
            work.rename(self._local.path(kind, key))
            self._cache.admit(name, sha256)

    def download_url(self, kind: BlobKind, key: str, seconds: float) -> str:
        """Return a URL to GET a result from, for so long; asks nobody."""
        return self._bucket.signed_url("GET", _name(kind, key), seconds)

    def part_url(self, key: str, offset: int, seconds: float) -> str:
        """Return a URL to PUT an upload's part to that begins at this offset, for so long; asks nobody."""
        return self._bucket.signed_url(
            "PUT", self._uploads.part_name(blob_keys.checked(key), offset), seconds
        )

    def delete(self, kind: BlobKind, key: str) -> None:
        """Delete a blob, or a folder of blobs; unknown keys are ignored."""
        name = _name(kind, key)
        with self._locks.of(name):
            self._local.delete(kind, key)
            self._cache.forget(name)
            self._uploads.forget(key)
        with self._written_lock:
            is_only_here = kind is BlobKind.WORK or name in self._written
            self._written -= {each for each in self._written if each == name or each.startswith(f"{name}/")}
        if not is_only_here:
            self._delete_objects(name)

    def keys(self, kind: BlobKind) -> Sequence[str]:
        """Return the top-level keys there are, sorted."""
        local = self._local.keys(kind)
        return local if kind is BlobKind.WORK else sorted({*local, *self._bucket.names(kind.value)})

    def untouched(self, kind: BlobKind, keys: Sequence[str], seconds: float) -> Sequence[str]:
        """Return those of the keys below which nothing was written for so long, by the bucket's clock, nor here by this machine's."""
        local = self._local.untouched(kind, keys, seconds)
        if kind is BlobKind.WORK or not local:
            return local
        since = self._bucket.now() - timedelta(seconds=seconds)
        return [key for key in local if self._bucket.last_written(_name(kind, key)) <= since]

    def free_bytes(self) -> int:
        """Return how many bytes may still be written: what is made lies on the local disk first."""
        return self._local.free_bytes()

    def ping(self) -> None:
        """Return if blobs can be written; OSError otherwise."""
        self._local.ping()
        self._bucket.ping()

    def close(self) -> None:
        """Return when nothing is sent any more; who waits for what was not sent is told that it is cancelled."""
        self._closing.set()
        self._keepers.shutdown(cancel_futures=True)
        self._readers.shutdown(cancel_futures=True)

    def _have(self, kind: BlobKind, key: str, go_on: GoOn) -> None:
        """Have a file that was seen to have the digest of what is stored: the one that is there, or a fetched one."""
        name = _name(kind, key)
        layout = self._layout(kind, key)
        is_there = self._local.size(kind, key) == layout.size_bytes
        if layout.sha256:
            self._uploads.forget(key)  # whoever seems to write it still does not touch this file
        elif is_there and self._uploads.has_local_file(key, layout.size_bytes):
            return
        if not is_there or self._local.sha256(kind, key) != layout.sha256:
            part = self._local.path(BlobKind.WORK, f"fetched-{uuid.uuid4().hex}")
            try:
                self._cache.make_room(layout.size_bytes)
                self._fetcher.fetch(layout.parts, part, layout.sha256, go_on)
                part.replace(self._local.path(kind, key))
            finally:
                part.unlink(missing_ok=True)
        self._cache.admit(name, layout.sha256)

    def _layout(self, kind: BlobKind, key: str) -> Layout:
        """Return which objects a blob is. FileNotFoundError where there is none."""
        name = _name(kind, key)
        if kind is BlobKind.UPLOAD:
            layout = self._uploads.layout(key)
            if layout is None:
                raise FileNotFoundError(name)
            return layout
        stored = self._bucket.stored(name)
        return Layout([Part(name, 0, stored.size_bytes)], stored.sha256, stored.size_bytes)

    def _put(self, kind: BlobKind, key: str, sha256: str) -> None:
        name = _name(kind, key)
        try:
            self._bucket.put_file_once(name, self._local.path(kind, key), sha256)
        except BlobStoreUnavailableError:
            self._closing.wait(_PAUSE_SECONDS)  # who tries again at once does so at a pace
            raise
        with self._written_lock:
            self._written.discard(name)
        self._cache.admit(name, sha256)

    def _seal(self, kind: BlobKind, key: str, sha256: str) -> None:
        name = _name(kind, key)
        with self._locks.of(name):
            if self._uploads.seal(key, sha256):
                self._cache.admit(name, sha256)

    def _delete_objects(self, name: str) -> None:
        names = [name]
        for each, _ in self._bucket.below(name):
            names.append(f"{name}/{each}")
            if len(names) >= _DELETED_AT_ONCE:
                self._bucket.delete(names)
                names.clear()
        self._bucket.delete(names)


def _name(kind: BlobKind, key: str) -> str:
    return f"{kind.value}/{blob_keys.checked(key)}"
