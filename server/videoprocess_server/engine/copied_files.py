"""Passed files become uploads of their user: copied while Prepare waits, so that the work survives who passed them."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import partial

import structlog

from videoprocess_server.blobs.blob_store import BlobKind, BlobStore
from videoprocess_server.blobs.file_copy import (
    FileChangedError,
    FileCopy,
    FileUnreadableError,
    GoOn,
    copy_file,
)
from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.ids import new_id
from videoprocess_server.engine.limits import Limits
from videoprocess_server.engine.passed_files import PassedFile, PassedFiles
from videoprocess_server.engine.quotas import Quotas
from videoprocess_server.engine.recording import SILENT, Recorder
from videoprocess_server.engine.side_thread import OverError, SideThread, StalledError
from videoprocess_server.engine.source_files import CopiedReference, FileReference, TokenReference
from videoprocess_server.engine.sweeper import Sweeper, bury
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.model.clock import Clock
from videoprocess_server.model.records import Upload
from videoprocess_server.model.states import UploadState
from videoprocess_server.store.repository import Repository, StoreUnavailableError

log = structlog.get_logger(__name__)

#: files that are copied at once: more only make a disk seek
MAX_COPYING = 12
MAX_COPYING_PER_USER = 6
#: a file that gives no byte for so long is given up
STALL_SECONDS = 30.0

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

#: asked now and then whether the answer is of no use any more
IsOver = Callable[[], bool]


def never() -> bool:
    """Whoever asked waits until the answer comes."""
    return False


class CopiedFiles:
    """Copies what tokens name.

    Args:
        repository: of the uploads' rows.
        blobs: of their bytes.
        passed: the descriptors that wait.
        sweeper: deletes the bytes of copies that no video came to use.
        clock: wall time.
        limits: of sizes.
        quotas: of users.
        space_left: whether the disk has more than its reserve.
        stall_seconds: see `STALL_SECONDS`.
        recorder: told what is stored.
    """

    def __init__(
        self,
        repository: Repository,
        blobs: BlobStore,
        passed: PassedFiles,
        sweeper: Sweeper,
        clock: Clock,
        limits: Limits,
        quotas: Quotas,
        space_left: Callable[[], bool],
        stall_seconds: float = STALL_SECONDS,
        recorder: Recorder = SILENT,
    ) -> None:
        self._repository = repository
        self._blobs = blobs
        self._passed = passed
        self._sweeper = sweeper
        self._clock = clock
        self._limits = limits
        self._quotas = quotas
        self._space_left = space_left
        self._stall_seconds = stall_seconds
        self._recorder = recorder
        self._lock = threading.Lock()
        #: user → files being copied, those that hang included
        self._copying: Counter[int] = Counter()

    @contextmanager
    def of(
        self,
        caller: Caller,
        user_id: int,
        files: Sequence[FileReference],
        *,
        is_over: IsOver = never,
        max_bytes: int | None = None,
    ) -> Iterator[list[FileReference]]:
        """Hold copies of what tokens name; yield the files with the copies in place of the tokens.

        At the end copies that no video uses are deleted. A token that stands twice is one file.

        Args:
            caller: who asks, and passed the files.
            user_id: whose they are.
            files: tokens and others.
            is_over: stops the copying.
            max_bytes: of a file; None: as of an upload.

        Raises:
            VideoProcessError: UNKNOWN_FD_TOKEN, FD_TOKENS_UNAVAILABLE, PROBE_BUSY, EMPTY_FILE, OVER_LIMITS, FILE_UNREADABLE,
                SOURCE_CHANGED, STORAGE_FULL, QUOTA_EXCEEDED, STORE_UNAVAILABLE, DRAINING.
        """
        tokens = list(dict.fromkeys(file.token for file in files if isinstance(file, TokenReference)))
        if not tokens:
            yield list(files)
            return
        most = self._limits.max_upload_bytes if max_bytes is None else max_bytes
        copies: dict[str, str] = {}
        try:
            with closing(self._taken(caller, user_id, tokens)) as taken:
                for token, file in zip(tokens, taken, strict=True):
                    copies[token] = self._copy(file, most, is_over)
            yield [
                CopiedReference(upload_id=copies[file.token]) if isinstance(file, TokenReference) else file
                for file in files
            ]
        finally:
            self._drop_unused(copies.values())

    def _taken(self, caller: Caller, user_id: int, tokens: Sequence[str]) -> Generator[PassedFile]:
        """Yield the files, each with a place to copy it, which is given back by its copying; close those that nobody came to."""
        self._take_places(user_id, len(tokens))
        left = len(tokens)
        waiting: list[PassedFile] = []
        try:
            waiting += self._passed.take(caller, user_id, tokens)
            while waiting:
                left -= 1
                yield waiting.pop(0)
        finally:
            for file in waiting:
                file.close()
            self._give_places_back(user_id, left)

    def _take_places(self, user_id: int, count: int) -> None:
        with self._lock:
            of_user, of_all = self._copying[user_id], self._copying.total()
            if of_user + count > MAX_COPYING_PER_USER or of_all + count > MAX_COPYING:
                raise VideoProcessError(
                    "PROBE_BUSY", "too many files are being copied", retry_after_seconds=1
                )
            self._copying[user_id] += count

    def _give_places_back(self, user_id: int, count: int) -> None:
        with self._lock:
            self._copying[user_id] -= count
            if not self._copying[user_id]:
                del self._copying[user_id]

    def _copy(self, file: PassedFile, max_bytes: int, is_over: IsOver) -> str:
        """Make an upload of a file, which is closed; return its id."""
        now = self._clock.now_us()
        upload = Upload(
            upload_id=new_id(),
            user_id=file.user_id,
            state=UploadState.ACTIVE,
            create_time_us=now,
            update_time_us=now,
            file_name=file.file_name,
        )
        copying = SideThread(
            partial(self._copy_aside, file, upload, max_bytes), lambda _copy: self._forget(upload)
        )
        try:
            copying.start()
        except RuntimeError as error:
            file.close()
            self._give_places_back(file.user_id, 1)
            raise VideoProcessError("PROBE_BUSY", "no thread is left", retry_after_seconds=5) from error
        try:
            copy = copying.result(is_over, self._stall_seconds)
        except StalledError as error:
            raise VideoProcessError("FILE_UNREADABLE", "the passed file gives no bytes") from error
        except OverError as error:
            raise VideoProcessError("DRAINING", "nobody waits for the copy", retry_after_seconds=2) from error
        self._publish(upload, copy)
        return upload.upload_id

    def _copy_aside(self, file: PassedFile, upload: Upload, max_bytes: int, go_on: GoOn) -> FileCopy:
        """Copy into a work blob, which is deleted where that fails; on a thread that may hang in here."""
        try:
            with closing(file):
                self._check(file, upload, max_bytes)
                copy = self._copy_to_work(file, upload, go_on)
        except BaseException:
            self._forget(upload)
            raise
        finally:
            self._give_places_back(file.user_id, 1)
        return copy

    def _forget(self, upload: Upload) -> None:
        self._quotas.ended(upload)
        self._blobs.delete(BlobKind.WORK, upload.upload_id)

    def _check(self, file: PassedFile, upload: Upload, max_bytes: int) -> None:
        """Return if the file may be kept; its size is counted from now on."""
        try:
            size = os.fstat(file.descriptor).st_size
        except OSError as error:
            raise VideoProcessError("FILE_UNREADABLE", "nothing can be told about the file") from error
        if size == 0:
            raise VideoProcessError("EMPTY_FILE", "the passed file has 0 bytes")
        if size > max_bytes:
            raise VideoProcessError(
                "OVER_LIMITS", f"the file has {size} bytes, at most {max_bytes} are taken"
            )
        self._quotas.claim(upload, size)
        if not self._space_left() or size > self._blobs.free_bytes():
            raise _storage_full()

    def _copy_to_work(self, file: PassedFile, upload: Upload, go_on: GoOn) -> FileCopy:
        def go_on_while_there_is_space(copied_bytes: int) -> None:
            go_on(copied_bytes)
            if not self._space_left():
                raise _storage_full()

        path = self._blobs.path(BlobKind.WORK, upload.upload_id)
        try:
            target = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                return copy_file(file.descriptor, target, go_on_while_there_is_space)
            finally:
                os.close(target)
        except FileChangedError as error:
            raise VideoProcessError("SOURCE_CHANGED", "the file changed while it was copied") from error
        except FileUnreadableError as error:
            raise VideoProcessError("FILE_UNREADABLE", f"the passed file: {error}") from error
        except OSError as error:
            if error.errno in _FULL:
                raise _storage_full() from error
            raise VideoProcessError("STORE_UNAVAILABLE", "the copy could not be written") from error

    def _publish(self, upload: Upload, copy: FileCopy) -> None:
        """Give the bytes their name, then a row: what a crash leaves in between, the next start sweeps."""
        finished = replace(upload, state=UploadState.FINISHED, size_bytes=copy.size_bytes, sha256=copy.sha256)
        try:
            self._blobs.publish(upload.upload_id, BlobKind.UPLOAD, upload.upload_id, copy.sha256)
            with self._repository.transaction() as tx:
                tx.put_upload(finished)
            self._recorder.bytes_received(copy.size_bytes)
        except BaseException:
            self._blobs.delete(BlobKind.WORK, upload.upload_id)
            self._drop_unused([upload.upload_id])
            raise
        finally:
            self._quotas.ended(upload)

    def _drop_unused(self, upload_ids: Iterable[str]) -> None:
        """Delete the copies that no video uses. With the store away they go by their age, or at the next start."""
        ids = list(upload_ids)
        with suppress(StoreUnavailableError):
            dropped = [self._drop(upload_id) for upload_id in ids]
            if any(dropped):
                self._sweeper.sweep()

    def _drop(self, upload_id: str) -> bool:
        with self._repository.transaction() as tx:
            if tx.count_videos_of_upload(upload_id):
                return False
            upload = tx.get_upload(upload_id)
            if upload is not None:
                tx.delete_upload(upload_id)
            bury(tx, BlobKind.UPLOAD, upload_id, self._clock.now_us())
        if upload is not None:
            self._quotas.ended(upload)
        return True


def _storage_full() -> VideoProcessError:
    return VideoProcessError("STORAGE_FULL", "there is no space left for a copy", retry_after_seconds=30)
