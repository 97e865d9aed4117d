"""Whether an upload may begin, go on and grow, as far as one can tell before its bytes are written."""

from __future__ import annotations

import re
from collections.abc import Callable

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.quotas import Quotas
from videoprocess_server.engine.video_ids import check_video_id
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.records import Upload
from videoprocess_server.model.states import UploadState
from videoprocess_server.store.repository import Repository

#: what a caller may choose as upload_id: 128 random bits
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")


class UploadAdmission:
    """Refuses what is malformed, too large, or does not fit.

    Args:
        repository: of the uploads' rows.
        blobs: of their bytes.
        limits: of sizes.
        quotas: of users.
        space_left: whether the disk has more than its reserve.
    """

    def __init__(
        self,
        repository: Repository,
        blobs: BlobStore,
        limits: Limits,
        quotas: Quotas,
        space_left: Callable[[], bool],
    ) -> None:
        self._repository = repository
        self._blobs = blobs
        self._limits = limits
        self._quotas = quotas
        self._space_left = space_left

    def check(self, user_id: int, upload_id: str, video_id: str, declared_size: int | None) -> None:
        """Return if a stream may write this upload; "" and None are what its caller did not say.

        Raises:
            VideoProcessError: INVALID_FIELD, INVALID_VIDEO_ID, QUOTA_EXCEEDED, STORAGE_FULL.
        """
        if declared_size is not None and not 0 <= declared_size <= self._limits.max_upload_bytes:
            raise VideoProcessError(
                "INVALID_FIELD",
                f"size_bytes must be 0 to {self._limits.max_upload_bytes}",
                {"size_bytes": "is out of range"},
            )
        if upload_id and not _UPLOAD_ID.fullmatch(upload_id):
            raise VideoProcessError(
                "INVALID_FIELD",
                "upload_id must be 32 lower-case hex digits",
                {"upload_id": "is not 32 lower-case hex digits"},
            )
        if video_id:
            check_video_id(video_id, self._limits)
        self._check_space(user_id, upload_id, declared_size)

    def check_message(self, upload: Upload, size_bytes: int) -> None:
        """Return if an upload may grow to this size, the user's quota aside.

        Raises:
            VideoProcessError: INVALID_FIELD, STORAGE_FULL.
        """
        declared = upload.declared_size_bytes
        limit = self._limits.max_upload_bytes if declared is None else declared
        if size_bytes > limit:
            raise VideoProcessError(
                "INVALID_FIELD", f"the upload grows beyond {limit} bytes", {"data": "exceeds size_bytes"}
            )
        if not self._space_left():
            raise storage_full()

    def _check_space(self, user_id: int, upload_id: str, declared_size: int | None) -> None:
        with self._repository.read() as reader:
            known = reader.get_upload(upload_id) if upload_id else None
        have = 0
        if known is not None:
            declared_size = known.declared_size_bytes
            have = self._blobs.size(BlobKind.UPLOAD, known.key) or 0
        rest = max((declared_size or 0) - have, 0)
        is_whole = declared_size is not None and rest == 0
        if is_whole or (known is not None and known.state is UploadState.FINISHED):
            return
        self._quotas.check(user_id, rest)
        if not self._space_left() or rest > self._blobs.free_bytes():
            raise storage_full()


def storage_full() -> VideoProcessError:
    """Return what a stream is told whose bytes do not fit."""
    return VideoProcessError("STORAGE_FULL", "there is no space left for uploads", retry_after_seconds=30)
