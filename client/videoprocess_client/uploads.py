"""Resumable uploads: whatever is cut, only what the service has not stored is sent again."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import BinaryIO, TypeAlias

from grpc import aio

from videoprocess.v1 import file_transfer_pb2 as pb
from videoprocess_client.direct_uploads import DirectUpload
from videoprocess_client.errors import ConnectionFailed, DataLoss, NotFound, VideoProcessError
from videoprocess_client.freed_memory import keep_freed_memory
from videoprocess_client.hashed_file import CHUNK_BYTES, HashedFile, Message
from videoprocess_client.link import Link
from videoprocess_client.retry import may_pass
from videoprocess_client.transfer_progress import TransferProgress

# On a line that is too slow for that.
LEAST_CHUNK_BYTES = 1 << 15
# A server that takes no message for so long is as good as gone.
STALL_SECONDS = 60.0
# The service may read a large file again before it says that it is whole.
FINISH_SECONDS = 600.0
# Causes that go away when the client goes on at the committed size.
_RESUMABLE = frozenset({"UPLOAD_OFFSET", "CHECKSUM_MISMATCH", "SIZE_MISMATCH"})

# Causes of which a slow line may be the reason.
_SLOW = frozenset({"STALLED", "TRANSFER_TOO_SLOW"})

_UploadCall: TypeAlias = "aio.StreamUnaryCall[pb.UploadRequest, pb.UploadResponse]"


@dataclass(frozen=True)
class UploadResult:
    """A finished upload.

    Attributes:
        upload_id: Its id, for `uploaded()`.
        size_bytes: Size of the file in bytes.
        sha256: SHA-256 of the file, 64 lower-case hexadecimal digits.
        sent_bytes: Bytes that went over the wire, more than the size when a part had to be sent again.
    """

    upload_id: str
    size_bytes: int
    sha256: str
    sent_bytes: int


def new_upload_id() -> str:
    """Draw an id for an upload: 128 random bits as 32 hexadecimal digits."""
    return secrets.token_hex(16)


class Upload:
    """One file on its way to the service."""

    def __init__(
        self,
        link: Link,
        file: BinaryIO,
        *,
        file_name: str = "",
        video_id: str = "",
        upload_id: str = "",
        on_progress: TransferProgress | None = None,
    ) -> None:
        self._link = link
        self._file = HashedFile(file)
        self._header = pb.UploadHeader(
            user_id=link.user_id,
            upload_id=upload_id or new_upload_id(),
            file_name=_bounded_name(file_name),
            size_bytes=self._file.size_bytes,
            video_id=video_id,
        )
        self._on_progress = on_progress
        self._sent_bytes = 0
        self._chunk_bytes = CHUNK_BYTES

    async def run(self) -> UploadResult:
        """Send the file until the service has all of it."""
        keep_freed_memory()
        # Asked for a new id too: from then on the service is known to be there, and a cut is worth waiting for.
        committed = await self._committed()
        if committed is not None and self._link.signed_urls is not None:
            direct = DirectUpload(
                self._link, self._link.signed_urls, self._file, self._header, self._on_progress
            )
            self._sent_bytes += await direct.run()
            committed = await self._committed()
        patience = self._link.patience()
        while committed is not None:
            try:
                return self._result(await self._send(committed))
            except (VideoProcessError, aio.AioRpcError) as error:
                failure = self._link.error(error) if isinstance(error, aio.AioRpcError) else error
                if not may_pass(failure) and failure.reason not in _RESUMABLE:
                    raise failure from error
                await patience.pause(failure)
                before, committed = committed, await self._committed()
                if committed is None or committed > before:
                    patience.renew()
                elif failure.reason in _SLOW:  # not even one message came through in time
                    self._chunk_bytes = max(self._chunk_bytes // 2, LEAST_CHUNK_BYTES)
        digest = await self._file.sha256()
        return UploadResult(self._header.upload_id, self._file.size_bytes, digest, self._sent_bytes)

    async def _committed(self) -> int | None:
        """Bytes that the service has stored; None when the upload is complete."""
        request = pb.QueryUploadRequest(user_id=self._link.user_id, upload_id=self._header.upload_id)
        try:
            response = await self._link.call(self._link.files.QueryUpload, request)
        except NotFound:
            return 0
        if response.complete and response.sha256 != await self._file.sha256():
            raise DataLoss("DIGEST_MISMATCH", "The finished upload of this id is another file.")
        return None if response.complete else response.committed_size_bytes

    async def _send(self, offset: int) -> pb.UploadResponse:
        """Send everything from `offset` on in one stream."""
        call: _UploadCall = self._link.files.Upload()
        try:
            await self._open(call, offset)
            await self._write_all(call, offset)
            return await _bounded(call, FINISH_SECONDS)
        finally:
            call.cancel()

    async def _open(self, call: _UploadCall, offset: int) -> None:
        """Say what is uploaded, and wait until the service has taken that up.

        A refusal comes while no bytes are on their way: a write that the end of the call breaks hides its status (gRPC's aio
        tells INTERNAL then).
        """
        await self._write(call, pb.UploadRequest(header=self._header, offset=offset))
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await call.initial_metadata()
        except TimeoutError as error:
            raise _stalled() from error
        if call.done():
            await _bounded(call, STALL_SECONDS)
            raise _ended_early()

    async def _write_all(self, call: _UploadCall, offset: int) -> None:
        reading = self._reading(offset)
        try:
            while True:
                messages = await reading
                is_end = messages[-1].is_last
                if not is_end:
                    reading = self._reading(messages[-1].end)  # while these are sent
                for message in messages:
                    await self._write(call, message.request)
                    self._tell(message)
                if is_end:
                    break
        finally:
            reading.cancel()
        await call.done_writing()

    def _reading(self, offset: int) -> asyncio.Task[list[Message]]:
        return asyncio.create_task(self._file.messages(offset, self._chunk_bytes))

    async def _write(self, call: _UploadCall, request: pb.UploadRequest) -> None:
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await call.write(request)
        except TimeoutError as error:
            raise _stalled() from error
        except (aio.AioRpcError, asyncio.InvalidStateError):
            # The service has ended the call: its own status is what counts, not that of the write.
            await _bounded(call, STALL_SECONDS)
            raise _ended_early() from None

    def _tell(self, message: Message) -> None:
        """A message is on its way."""
        self._sent_bytes += message.end - message.request.offset
        if self._on_progress is not None:
            self._on_progress(message.end, self._file.size_bytes)

    def _result(self, response: pb.UploadResponse) -> UploadResult:
        if not response.complete:
            raise _ended_early()
        return UploadResult(response.upload_id, response.size_bytes, response.sha256, self._sent_bytes)


async def _bounded(call: _UploadCall, seconds: float) -> pb.UploadResponse:
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError as error:
        raise _stalled() from error


def _ended_early() -> ConnectionFailed:
    return ConnectionFailed("STREAM_ENDED", "The service ended the upload before it was complete.")


def _stalled() -> ConnectionFailed:
    return ConnectionFailed("STALLED", "The service took no bytes for too long.")


def _bounded_name(name: str) -> str:
    """At most 255 bytes of UTF-8, as the contract asks."""
    return name.encode("utf-8", "replace")[:255].decode("utf-8", "ignore")
