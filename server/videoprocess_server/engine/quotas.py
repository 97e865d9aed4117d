"""How much of the disk a user may have: uploads, segments and results together."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import Upload
from videoprocess_server.model.states import UploadState
from videoprocess_server.store.repository import Reader, Repository

#: how long the sum over a user's rows is believed: what jobs add meanwhile may exceed the quota
BELIEVED_SECONDS = 1.0
MAX_SUMS = 4096
_MAX_UPLOADS = 1_000_000
_END_OF_TIME_US = 1 << 62


@dataclass(frozen=True)
class _Sum:
    stored_bytes: int
    believed_until: float


class Quotas:
    """Adds up what users keep. Without a quota it counts nothing and refuses nobody.

    Rows tell the size of everything but unfinished uploads, whose sizes are counted here as `Uploads` writes them, until
    their rows say that they have ended, here or at another replica.

    Args:
        repository: of the rows.
        blobs: of the unfinished uploads.
        quota_bytes: of each user; 0 is none.
        monotonic: seconds that never jump.
    """

    def __init__(
        self, repository: Repository, blobs: BlobStore, quota_bytes: int, monotonic: Callable[[], float]
    ) -> None:
        self._repository = repository
        self._quota_bytes = quota_bytes
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._sums: dict[int, _Sum] = {}
        #: user → upload → bytes
        self._unfinished: defaultdict[int, dict[str, int]] = defaultdict(dict)
        #: uploads whose next bytes were claimed and are not written yet; a copy of a passed file has no row before its end
        self._claimed: set[str] = set()
        if quota_bytes:
            self._count_unfinished(blobs)

    def _count_unfinished(self, blobs: BlobStore) -> None:
        with self._repository.read() as reader:
            uploads = reader.list_expired_uploads(_END_OF_TIME_US, 0, _MAX_UPLOADS)
        for upload in uploads:
            if upload.state is UploadState.ACTIVE:
                self.written(upload, blobs.size(BlobKind.UPLOAD, upload.key) or 0)

    def check(self, user_id: int, more_bytes: int) -> None:
        """Return if the user may keep that much more.

        Raises:
            VideoProcessError: QUOTA_EXCEEDED.
        """
        if not self._quota_bytes:
            return
        used_bytes = self._used_bytes(user_id)
        if used_bytes + more_bytes > self._quota_bytes:
            raise self._exceeded(user_id, used_bytes, more_bytes)

    def claim(self, upload: Upload, size_bytes: int) -> None:
        """Count an unfinished upload with the size it is about to have, if the user may keep that much.

        Looks and counts in one step: streams that write at once cannot all pass by the same room.

        Raises:
            VideoProcessError: QUOTA_EXCEEDED; it is counted as before.
        """
        if not self._quota_bytes:
            return
        stored_bytes = self._stored_bytes(upload.user_id)
        with self._lock:
            uploads = self._unfinished[upload.user_id]
            has_bytes = uploads.get(upload.upload_id, 0)
            used_bytes = stored_bytes + sum(uploads.values())
            if used_bytes - has_bytes + size_bytes <= self._quota_bytes:
                uploads[upload.upload_id] = size_bytes
                self._claimed.add(upload.upload_id)
                return
        raise self._exceeded(upload.user_id, used_bytes, size_bytes - has_bytes)

    def exceeded(self, user_id: int) -> str:
        """Return why a job of the user may not run now; "" where it may."""
        if not self._quota_bytes or self._used_bytes(user_id) < self._quota_bytes:
            return ""
        return f"user {user_id} keeps {self._used_bytes(user_id)} of {self._quota_bytes} bytes"

    def written(self, upload: Upload, size_bytes: int) -> None:
        """Count an unfinished upload with the size it has now."""
        if self._quota_bytes:
            with self._lock:
                self._unfinished[upload.user_id][upload.upload_id] = size_bytes
                self._claimed.discard(upload.upload_id)

    def ended(self, upload: Upload) -> None:
        """Count an upload no more: it is finished, so that its row tells its size, or gone."""
        with self._lock:
            self._forget(upload.user_id, [upload.upload_id])
            self._sums.pop(upload.user_id, None)

    def _forget(self, user_id: int, upload_ids: Iterable[str]) -> None:
        """Count these no more; the caller holds the lock."""
        uploads = self._unfinished.get(user_id, {})
        for upload_id in upload_ids:
            uploads.pop(upload_id, None)
            self._claimed.discard(upload_id)
        if not uploads:
            self._unfinished.pop(user_id, None)

    def _forget_ended(self, reader: Reader, user_id: int) -> None:
        """Count no more what another replica has finished, so that its row tells its size, or deleted."""
        with self._lock:
            at_rest = self._unfinished.get(user_id, {}).keys() - self._claimed
        if not at_rest:
            return
        ended = at_rest.difference(reader.list_active_uploads_among(at_rest))
        with self._lock:
            self._forget(user_id, ended)

    def _exceeded(self, user_id: int, used_bytes: int, more_bytes: int) -> VideoProcessError:
        return VideoProcessError(
            "QUOTA_EXCEEDED",
            f"user {user_id} keeps {used_bytes} of {self._quota_bytes} bytes; {more_bytes} more do not fit",
            metadata={"user_id": str(user_id), "quota_bytes": str(self._quota_bytes)},
        )

    def _used_bytes(self, user_id: int) -> int:
        stored_bytes = self._stored_bytes(user_id)
        with self._lock:
            return stored_bytes + sum(self._unfinished.get(user_id, {}).values())

    def _stored_bytes(self, user_id: int) -> int:
        now = self._monotonic()
        with self._lock:
            known = self._sums.get(user_id)
        if known is not None and now < known.believed_until:
            return known.stored_bytes
        with self._repository.read() as reader:
            self._forget_ended(reader, user_id)
            stored_bytes = reader.stored_bytes(user_id)
        with self._lock:
            if len(self._sums) >= MAX_SUMS:
                self._sums.clear()
            self._sums[user_id] = _Sum(stored_bytes, now + BELIEVED_SECONDS)
        return stored_bytes
