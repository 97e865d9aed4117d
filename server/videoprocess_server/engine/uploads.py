"""Uploads: bytes that arrive in order, survive a cut at any of them, and are checked as a whole."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore, BlobStoreFullError
from videoprocess_server.engine.authorisation import Caller, Policy, authorise
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.quotas import Quotas
from videoprocess_server.engine.recording import SILENT, Recorder
from videoprocess_server.engine.sources import Sources
from videoprocess_server.engine.sweeper import bury
from videoprocess_server.engine.upload_admission import UploadAdmission, storage_full
from videoprocess_server.engine.upload_digests import RunningDigest, RunningDigests
from videoprocess_server.engine.upload_rows import begin_or_go_on, finish, same_digest, taken_over, touch
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.records import Upload
from videoprocess_server.model.states import UploadState
from videoprocess_server.store.repository import Reader, Repository, StoreUnavailableError

LOCK_STRIPES = 64  # uploads that write at once rarely share one
#: a growing upload's row is written once in this part of the time that unfinished ones are kept
TOUCHES_PER_LIFE = 100
EXPIRED_PER_PASS = 64


@dataclass
class Writer:
    """One stream that writes an upload; a newer one fences it off."""

    upload: Upload
    committed_size: int
    #: of what is stored
    digest: RunningDigest


@dataclass(frozen=True, kw_only=True)
class UploadView:
    """An upload and how far it is."""

    upload: Upload
    committed_size: int
    #: when it is dropped; None while a video refers to it
    expire_time_us: int | None


class Uploads:
    """Takes uploads in, and drops those that nobody wants any more.

    Args:
        repository: keeps their rows.
        blobs: keeps their bytes.
        sources: makes a finished one a video's source.
        policy: who may act for whom.
        clock: wall time.
        limits: of sizes and retention.
        quotas: of users.
        space_left: whether the disk has more than its reserve.
        recorder: told what is stored.
    """

    def __init__(
        self,
        repository: Repository,
        blobs: BlobStore,
        sources: Sources,
        policy: Policy,
        clock: Clock,
        limits: Limits,
        quotas: Quotas,
        space_left: Callable[[], bool],
        recorder: Recorder = SILENT,
    ) -> None:
        self._repository = repository
        self._blobs = blobs
        self._sources = sources
        self._policy = policy
        self._clock = clock
        self._limits = limits
        self._quotas = quotas
        self._admission = UploadAdmission(repository, blobs, limits, quotas, space_left)
        self._recorder = recorder
        #: an upload's writer changes under the lock of its stripe only, and so does its blob
        self._stripes = [threading.Lock() for _ in range(LOCK_STRIPES)]
        self._writers: dict[str, Writer] = {}
        self._digests = RunningDigests()

    @property
    def writing_count(self) -> int:
        """How many streams write an upload now."""
        return len(self._writers)

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
            VideoProcessError: USER_NOT_ALLOWED, INVALID_FIELD, UPLOAD_NOT_FOUND, VIDEO_EXISTS, QUOTA_EXCEEDED, STORAGE_FULL.
        """
        authorise(self._policy, caller, user_id)
        self._admission.check(user_id, upload_id, video_id, declared_size)
        asked = Upload(
            upload_id=upload_id or new_id(),
            user_id=user_id,
            state=UploadState.ACTIVE,
            create_time_us=(now := self._clock.now_us()),
            update_time_us=now,
            file_name=file_name,
            video_id=video_id,
            declared_size_bytes=declared_size,
            blob_key=new_id(),
        )
        # Whoever wrote it until now has ended its message when the stripe is free, and gets no further.
        with self._stripe(asked.upload_id):
            with self._repository.transaction() as tx:
                upload = begin_or_go_on(tx, asked)
            return self._take_over(upload)

    def _take_over(self, upload: Upload) -> Writer:
        """Make a new writer the only one; the caller holds the stripe."""
        if upload.state is UploadState.FINISHED:
            return Writer(upload, upload.size_bytes, RunningDigest())
        if upload.upload_id in self._writers:
            self._sync(upload.key)
        size = self._blobs.size(BlobKind.UPLOAD, upload.key) or 0
        writer = Writer(upload, size, self._digests.of(upload.key, size))
        self._writers[upload.upload_id] = writer
        return writer

    def _sync(self, key: str) -> None:
        """Make durable what came of an unfinished upload, as far as that is possible; the caller holds the stripe."""
        try:
            self._blobs.sync(BlobKind.UPLOAD, key)
        except (OSError, ValueError):  # what is not is sent again, to another process maybe
            self._digests.forget(key)

    def _stripe(self, upload_id: str) -> threading.Lock:
        return self._stripes[hash(upload_id) % LOCK_STRIPES]

    def _check_fence(self, writer: Writer) -> None:
        if self._writers.get(writer.upload.upload_id) is not writer:
            raise taken_over()

    def _elsewhere(self, writer: Writer) -> VideoProcessError:
        """Return what a stream is told where another replica, or a client past the service, has written on: to look where it is."""
        self._digests.forget(writer.upload.key)
        return VideoProcessError(
            "UPLOAD_OFFSET", f"the bytes from {writer.committed_size} on, or before, have come another way"
        )

    def append(self, writer: Writer, offset: int, data: bytes) -> int:
        """Write one message's bytes at the committed size; return the new one.

        Raises:
            VideoProcessError: UPLOAD_OFFSET, UPLOAD_FINISHED, UPLOAD_TAKEN_OVER, INVALID_FIELD, QUOTA_EXCEEDED, STORAGE_FULL.
        """
        if writer.upload.state is UploadState.FINISHED:
            raise VideoProcessError("UPLOAD_FINISHED", "the upload is finished")
        if offset != writer.committed_size:
            raise VideoProcessError(
                "UPLOAD_OFFSET",
                f"offset {offset} is not the committed size {writer.committed_size}",
                metadata={"committed_size": str(writer.committed_size)},
            )
        self._admission.check_message(writer.upload, offset + len(data))
        with self._stripe(writer.upload.upload_id):
            self._check_fence(writer)
            self._quotas.claim(writer.upload, offset + len(data))
            try:
                writer.committed_size = self._blobs.append(BlobKind.UPLOAD, writer.upload.key, offset, data)
            except BlobStoreFullError as error:
                raise storage_full() from error
            except ValueError as error:
                raise self._elsewhere(writer) from error
            except OSError as error:
                raise VideoProcessError("STORE_UNAVAILABLE", "the message could not be written") from error
            finally:
                self._quotas.written(writer.upload, writer.committed_size)
            self._recorder.bytes_received(len(data))
            writer.digest.add(offset, data)
            self._touch(writer, self._limits.retention.unfinished_uploads_us // TOUCHES_PER_LIFE)
        return writer.committed_size

    def _touch(self, writer: Writer, at_most_every_us: int) -> None:
        """Write into the row that a message came, so that the upload stays; the caller holds its stripe."""
        now = self._clock.now_us()
        if abs(now - writer.upload.update_time_us) < at_most_every_us:
            return
        with (
            suppress(StoreUnavailableError),
            self._repository.transaction() as tx,
        ):  # the next message tries again
            writer.upload = touch(tx, writer.upload, now)

    def finish(self, writer: Writer, sha256: str) -> Upload:
        """Make the upload whole and durable; if it names a video, that becomes PENDING. Finishing again is the same answer.

        Args:
            writer: of this stream.
            sha256: in hex, of the whole; "" is not checked.

        Raises:
            VideoProcessError: SIZE_MISMATCH, DIGEST_MISMATCH, UPLOAD_TAKEN_OVER, VIDEO_EXISTS, STORE_UNAVAILABLE.
        """
        upload = writer.upload
        if upload.state is UploadState.FINISHED:
            return same_digest(upload, sha256)
        declared = upload.declared_size_bytes
        if declared is not None and declared != writer.committed_size:
            raise VideoProcessError(
                "SIZE_MISMATCH",
                f"{writer.committed_size} of {declared} bytes arrived",
                metadata={"committed_size": str(writer.committed_size)},
            )
        try:
            digest = self._stored(writer)
        except ValueError as error:
            raise self._elsewhere(writer) from error
        except OSError as error:
            raise _not_stored() from error
        finished = replace(
            upload,
            state=UploadState.FINISHED,
            update_time_us=self._clock.now_us(),
            size_bytes=writer.committed_size,
            sha256=digest,
        )
        same_digest(finished, sha256)
        with self._stripe(upload.upload_id):
            self._check_fence(writer)
            try:
                self._blobs.keep(BlobKind.UPLOAD, upload.key, digest).result()
            except OSError as error:
                raise _not_stored() from error
            with self._repository.transaction() as tx:
                finished = finish(tx, finished, self._sources)
            del self._writers[upload.upload_id]
        self._digests.forget(upload.key)
        self._quotas.ended(finished)
        writer.upload = finished
        return finished

    def _stored(self, writer: Writer) -> str:
        """Make what was written durable; return its SHA-256 in hex."""
        key = writer.upload.key
        with self._stripe(writer.upload.upload_id):
            self._check_fence(writer)
            if writer.committed_size == 0:
                self._blobs.append(BlobKind.UPLOAD, key, 0, b"")
        self._blobs.sync(BlobKind.UPLOAD, key)
        descriptor = self._blobs.open(BlobKind.UPLOAD, key)
        try:
            return writer.digest.catch_up(
                descriptor, writer.committed_size, lambda: self._check_fence(writer)
            )
        finally:
            os.close(descriptor)

    def abandon(self, writer: Writer) -> None:
        """The stream ended without finishing; what arrived stays for the next one."""
        with self._stripe(writer.upload.upload_id):
            if self._writers.get(writer.upload.upload_id) is writer:
                self._sync(writer.upload.key)
                self._blobs.let_go(BlobKind.UPLOAD, writer.upload.key)
                self._touch(writer, 1)
                del self._writers[writer.upload.upload_id]

    def query(self, caller: Caller, user_id: int, upload_id: str) -> UploadView:
        """Return an upload and how much of it there is.

        Raises:
            VideoProcessError: USER_NOT_ALLOWED, UPLOAD_NOT_FOUND.
        """
        authorise(self._policy, caller, user_id)
        with self._repository.read() as reader:
            upload = reader.get_upload(upload_id)
            if upload is None or upload.user_id != user_id:
                raise VideoProcessError(
                    "UPLOAD_NOT_FOUND", f"there is no upload {upload_id!r} of user {user_id}"
                )
            return self._view(reader, upload)

    def view(self, writer: Writer) -> UploadView:
        """Return the upload that a stream wrote, with all that came."""
        with self._stripe(writer.upload.upload_id):
            if self._writers.get(writer.upload.upload_id) is writer:
                self._sync(writer.upload.key)
                writer.committed_size = self._blobs.size(BlobKind.UPLOAD, writer.upload.key) or 0
        with self._repository.read() as reader:
            return replace(self._view(reader, writer.upload), committed_size=writer.committed_size)

    def _view(self, reader: Reader, upload: Upload) -> UploadView:
        retention, finished = self._limits.retention, upload.state is UploadState.FINISHED
        kept_us = retention.unused_uploads_us if finished else retention.unfinished_uploads_us
        is_used = finished and reader.count_videos_of_upload(upload.upload_id)
        return UploadView(
            upload=upload,
            committed_size=upload.size_bytes if finished else self._committed_size(upload),
            expire_time_us=None if is_used else upload.update_time_us + kept_us,
        )

    def _committed_size(self, upload: Upload) -> int:
        """Return what of an unfinished upload stays: of a message that is being written nothing, it may yet fail."""
        size = self._blobs.size(BlobKind.UPLOAD, upload.key) or 0
        writer = self._writers.get(upload.upload_id)
        if writer is None or self._blobs.commit_bytes:  # whole messages only, of another replica maybe
            return size
        return min(size, writer.committed_size)

    def expire(self) -> int:
        """Drop a batch of unfinished uploads that nobody went on with, and of finished ones that no video uses.

        Returns:
            How many.
        """
        now, retention = self._clock.now_us(), self._limits.retention
        with self._repository.read() as reader:
            expired = reader.list_expired_uploads(
                now - retention.unfinished_uploads_us, now - retention.unused_uploads_us, EXPIRED_PER_PASS
            )
        return sum(self._drop(upload) for upload in expired)

    def _drop(self, upload: Upload) -> bool:
        with self._stripe(upload.upload_id):
            writer = self._writers.get(upload.upload_id)
            if writer is not None:  # a slow caller, but there
                self._touch(writer, 1)
                return False
            with self._repository.transaction() as tx:
                if tx.get_upload(upload.upload_id) != upload or tx.count_videos_of_upload(upload.upload_id):
                    return False  # it was gone on with, or is used, since it was listed
                tx.delete_upload(upload.upload_id)
                bury(tx, BlobKind.UPLOAD, upload.key, self._clock.now_us())
        self._digests.forget(upload.key)
        self._quotas.ended(upload)
        return True


def _not_stored() -> VideoProcessError:
    return VideoProcessError("STORE_UNAVAILABLE", "the upload could not be stored")
