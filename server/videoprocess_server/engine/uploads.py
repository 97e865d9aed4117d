"""Uploads: bytes that arrive in order, survive a cut at any of them, and are checked as a whole."""

from __future__ import annotations

import hashlib
import re
import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, BlobStoreFullError
from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.sources import Sources
from videoprocess_server.engine.video_ids import check_video_id
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.records import Upload, Video
from videoprocess_server.model.states import UploadState, VideoState
from videoprocess_server.store.repository import Repository

if TYPE_CHECKING:
    from hashlib import _Hash

#: what a caller may choose as upload_id: 128 random bits
_UPLOAD_ID = re.compile(r"[0-9a-f]{32}")
LOCK_STRIPES = 64  # uploads that write at once rarely share one


@dataclass
class Writer:
    """One stream that writes an upload; a newer one fences it off."""

    upload: Upload
    committed_size: int
    #: over what this writer wrote, if it began at 0; None makes `finish` read the blob
    digest: _Hash | None = field(default_factory=hashlib.sha256)


class Uploads:
    """Takes uploads in."""

    def __init__(
        self,
        repository: Repository,
        blobs: BlobStore,
        sources: Sources,
        policy: Policy,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self._repository = repository
        self._blobs = blobs
        self._sources = sources
        self._policy = policy
        self._clock = clock
        self._limits = limits
        #: an upload's writer changes under the lock of its stripe only, and so does its blob
        self._stripes = [threading.Lock() for _ in range(LOCK_STRIPES)]
        self._writers: dict[str, Writer] = {}

    def open(
        self,
        caller: Caller,
        user_id: int,
        upload_id: str,
        file_name: str,
        video_id: str,
        declared_size: int | None,
    ) -> Writer:
        """Begin an upload, or go on with one; a stream that wrote it until now is fenced off.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, INVALID_FIELD, UPLOAD_NOT_FOUND, VIDEO_EXISTS, OVER_LIMITS.
        """
        authorise(self._policy, caller, user_id)
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
        now = self._clock.now_us()
        with self._repository.transaction() as tx:
            upload = tx.get_upload(upload_id) if upload_id else None
            if upload is None:
                if video_id and tx.get_video(user_id, video_id) is not None:
                    raise VideoProcessError("VIDEO_EXISTS", f"there is a video {video_id!r} already")
                upload = Upload(
                    upload_id=upload_id or new_id(),
                    user_id=user_id,
                    state=UploadState.ACTIVE,
                    create_time_us=now,
                    update_time_us=now,
                    file_name=file_name,
                    video_id=video_id,
                    declared_size_bytes=declared_size,
                )
                tx.put_upload(upload)
            elif upload.user_id != user_id:
                raise VideoProcessError(
                    "UPLOAD_NOT_FOUND", f"there is no upload {upload_id!r} of user {user_id}"
                )
        return self._take_over(upload)

    def _take_over(self, upload: Upload) -> Writer:
        with self._stripe(upload):
            with self._repository.read() as reader:  # its writer may have finished it while we waited
                upload = reader.get_upload(upload.upload_id) or upload
            if upload.state is UploadState.FINISHED:
                return Writer(upload, upload.size_bytes, None)
            size = self._blobs.size(BlobKind.UPLOAD, upload.upload_id) or 0
            writer = Writer(upload, size, hashlib.sha256() if size == 0 else None)
            self._writers[upload.upload_id] = writer
        return writer

    def _stripe(self, upload: Upload) -> threading.Lock:
        return self._stripes[hash(upload.upload_id) % LOCK_STRIPES]

    def append(self, writer: Writer, offset: int, data: bytes) -> int:
        """Write one message's bytes at the committed size; return the new one.

        Raises:
            VideoProcessError: UPLOAD_OFFSET, UPLOAD_FINISHED, UPLOAD_TAKEN_OVER, OVER_LIMITS, STORAGE_FULL.
        """
        if writer.upload.state is UploadState.FINISHED:
            raise VideoProcessError("UPLOAD_FINISHED", "the upload is finished")
        if offset != writer.committed_size:
            raise VideoProcessError(
                "UPLOAD_OFFSET",
                f"offset {offset} is not the committed size {writer.committed_size}",
                metadata={"committed_size": str(writer.committed_size)},
            )
        declared = writer.upload.declared_size_bytes
        limit = self._limits.max_upload_bytes if declared is None else declared
        if offset + len(data) > limit:
            raise VideoProcessError(
                "INVALID_FIELD", f"the upload grows beyond {limit} bytes", {"data": "exceeds size_bytes"}
            )
        with self._stripe(writer.upload):
            if self._writers.get(writer.upload.upload_id) is not writer:
                raise VideoProcessError("UPLOAD_TAKEN_OVER", "another stream goes on with this upload")
            try:
                writer.committed_size = self._blobs.append(
                    BlobKind.UPLOAD, writer.upload.upload_id, offset, data
                )
            except BlobStoreFullError as error:
                raise VideoProcessError(
                    "STORAGE_FULL", "there is no space left for uploads", retry_after_seconds=30
                ) from error
        if writer.digest is not None:
            writer.digest.update(data)
        return writer.committed_size

    def finish(self, writer: Writer, sha256: str) -> Upload:
        """Make the upload whole and durable; if it names a video, that becomes PENDING. Finishing again is the same answer.

        Args:
            writer: of this stream.
            sha256: in hex, of the whole; "" is not checked.

        Raises:
            VideoProcessError: SIZE_MISMATCH, DIGEST_MISMATCH, UPLOAD_TAKEN_OVER, VIDEO_EXISTS.
        """
        upload = writer.upload
        if upload.state is UploadState.FINISHED:
            return self._same_digest(upload, sha256)
        declared = upload.declared_size_bytes
        if declared is not None and declared != writer.committed_size:
            raise VideoProcessError(
                "SIZE_MISMATCH",
                f"{writer.committed_size} of {declared} bytes arrived",
                metadata={"committed_size": str(writer.committed_size)},
            )
        if writer.committed_size == 0:
            self._blobs.append(BlobKind.UPLOAD, upload.upload_id, 0, b"")
        self._blobs.sync(BlobKind.UPLOAD, upload.upload_id)
        digest = (
            writer.digest.hexdigest()
            if writer.digest
            else self._blobs.sha256(BlobKind.UPLOAD, upload.upload_id)
        )
        finished = replace(
            upload,
            state=UploadState.FINISHED,
            update_time_us=self._clock.now_us(),
            size_bytes=writer.committed_size,
            sha256=digest,
        )
        self._same_digest(finished, sha256)
        with self._stripe(writer.upload):
            if self._writers.get(upload.upload_id) is not writer:
                raise VideoProcessError("UPLOAD_TAKEN_OVER", "another stream goes on with this upload")
            self._keep_finished(finished)
            del self._writers[upload.upload_id]
        writer.upload = finished
        return finished

    def _keep_finished(self, finished: Upload) -> None:
        with self._repository.transaction() as tx:
            tx.put_upload(finished)
            if not finished.video_id:
                return
            if tx.get_video(finished.user_id, finished.video_id) is not None:
                raise VideoProcessError("VIDEO_EXISTS", f"there is a video {finished.video_id!r} already")
            tx.put_video(
                Video(
                    user_id=finished.user_id,
                    video_id=finished.video_id,
                    state=VideoState.PENDING,
                    create_time_us=finished.update_time_us,
                    update_time_us=finished.update_time_us,
                    source=self._sources.of_upload(tx, finished.user_id, finished.upload_id)
                    if finished.size_bytes
                    else None,
                )
            )

    @staticmethod
    def _same_digest(upload: Upload, sha256: str) -> Upload:
        if sha256 and sha256.lower() != upload.sha256:
            raise VideoProcessError(
                "DIGEST_MISMATCH", f"the {upload.size_bytes} bytes that arrived have SHA-256 {upload.sha256}"
            )
        return upload

    def abandon(self, writer: Writer) -> None:
        """The stream ended without finishing; what arrived stays for the next one."""
        with self._stripe(writer.upload):
            if self._writers.get(writer.upload.upload_id) is writer:
                del self._writers[writer.upload.upload_id]

    def query(self, caller: Caller, user_id: int, upload_id: str) -> tuple[Upload, int]:
        """Return an upload and its committed size in bytes.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, UPLOAD_NOT_FOUND.
        """
        authorise(self._policy, caller, user_id)
        with self._repository.read() as reader:
            upload = reader.get_upload(upload_id)
        if upload is None or upload.user_id != user_id:
            raise VideoProcessError("UPLOAD_NOT_FOUND", f"there is no upload {upload_id!r} of user {user_id}")
        if upload.state is UploadState.FINISHED:
            return upload, upload.size_bytes
        return upload, self._blobs.size(BlobKind.UPLOAD, upload_id) or 0
