"""FileTransferService: bytes in and out. While one message is stored or sent, the next one comes or is read."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import google_crc32c
from structlog.contextvars import bind_contextvars

from videoprocess.v1 import file_transfer_pb2 as pb
from videoprocess.v1 import file_transfer_pb2_grpc as pb_grpc
from videoprocess_server.engine.uploads import Uploads, Writer
from videoprocess_server.model.records import Artifact
from videoprocess_server.rpc.call_pool import FILE_THREADS
from videoprocess_server.rpc.caller import Context, caller_of
from videoprocess_server.rpc.convert import direct, files
from videoprocess_server.rpc.convert.fields import invalid, user_id_of
from videoprocess_server.rpc.convert.reports import artifact
from videoprocess_server.rpc.freed_memory import keep_freed_memory
from videoprocess_server.rpc.pace import PacedMessages
from videoprocess_server.rpc.services import Services

T = TypeVar("T")

DOWNLOAD_CHUNK_BYTES = 1 << 20  # enough to be fast, little enough for a thousand at once
UPLOAD_ID_METADATA = "upload-id"


class FileTransferService(pb_grpc.FileTransferServiceServicer):
    """Moves bytes between streams and the engine."""

    def __init__(self, services: Services) -> None:
        self._calls = services.pools.calls
        self._files = services.pools.files
        self._uploads = services.uploads
        self._results = services.results
        self._direct = services.direct
        self._recorder = services.recorder
        self._stall_seconds = services.facts.limits.transfer_stall_seconds
        #: streams that have two messages in their hands; the others have one
        self._at_work = asyncio.Semaphore(FILE_THREADS)
        keep_freed_memory()

    async def Upload(
        self, request_iterator: AsyncIterator[pb.UploadRequest], context: Context
    ) -> pb.UploadResponse:
        """Take a file in, or a part of one."""
        messages = PacedMessages(request_iterator, self._stall_seconds)
        first = await messages.next()
        start = files.upload_start(first)
        arguments = (start.user_id, start.upload_id, start.file_name, start.video_id, start.declared_size)
        opened = self._files.hold(self._uploads.abandon, self._uploads.open, caller_of(context), *arguments)
        async with opened as writer:
            bind_contextvars(user_id=start.user_id, upload_id=writer.upload.upload_id)
            await context.send_initial_metadata(((UPLOAD_ID_METADATA, writer.upload.upload_id),))
            await self._take_in(writer, first, messages)
            return files.upload_response(await self._files.run(self._uploads.view, writer))

    async def _take_in(
        self, writer: Writer, message: pb.UploadRequest | None, messages: PacedMessages
    ) -> None:
        """Write message after message, until one finishes the upload or the stream ends."""
        while message is not None and not message.HasField("finish"):
            async with self._at_work, _meanwhile(messages.next(writer.committed_size)) as following:
                await self._files.run(_keep, self._uploads, writer, message)
            message = await following
            if message is not None and message.HasField("header"):
                raise invalid("header", "comes in the first message only")
        if message is not None:
            await self._files.run(_keep, self._uploads, writer, message)

    async def QueryUpload(self, request: pb.QueryUploadRequest, context: Context) -> pb.QueryUploadResponse:
        """Tell how much of an upload there is."""
        user_id = user_id_of(request)
        found = await self._calls.run(self._uploads.query, caller_of(context), user_id, request.upload_id)
        return files.query_upload_response(found)

    async def Download(
        self, request: pb.DownloadRequest, context: Context
    ) -> AsyncIterator[pb.DownloadResponse]:
        """Send a result, or a part of one."""
        user_id = user_id_of(request)
        files.check_download(request)
        arguments = (caller_of(context), user_id, request.artifact_id, request.offset)
        async with self._files.hold(_close, self._results.open, *arguments) as (file, descriptor):
            end = files.download_end(request, file.size_bytes)
            message, position = await self._files.run(_chunk, descriptor, request.offset, end)
            message.artifact.CopyFrom(artifact(file))
            while position < end:
                async with _meanwhile(self._files.run(_chunk, descriptor, position, end)) as following:
                    self._recorder.bytes_sent(len(message.data))
                    yield message
                    message, position = await following
            self._recorder.bytes_sent(len(message.data))
            yield message

    async def GetDownloadUrl(
        self, request: pb.GetDownloadUrlRequest, context: Context
    ) -> pb.GetDownloadUrlResponse:
        """Tell where a result is fetched from."""
        user_id = user_id_of(request)
        found = await self._calls.run(self._direct.download, caller_of(context), user_id, request.artifact_id)
        return direct.download_url_response(found)

    async def GetUploadUrls(
        self, request: pb.GetUploadUrlsRequest, context: Context
    ) -> pb.GetUploadUrlsResponse:
        """Tell where an upload's next parts are written to."""
        start = direct.upload_start(request)
        arguments = (start.user_id, start.upload_id, start.file_name, start.video_id, start.declared_size)
        begun = await self._files.run(self._direct.upload, caller_of(context), *arguments)
        return direct.upload_urls_response(begun)


@asynccontextmanager
async def _meanwhile(work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Do something beside what is done in here; if that fails, the other has ended too when this does."""
    task = asyncio.create_task(work)
    try:
        yield task
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # is seen; the first failure is the one that counts
        raise


def _keep(uploads: Uploads, writer: Writer, message: pb.UploadRequest) -> None:
    data = files.upload_data(message)
    if data:
        uploads.append(writer, message.offset, data)
    if message.HasField("finish"):
        uploads.finish(writer, files.upload_digest(message.finish, writer.committed_size))


def _close(opened: tuple[Artifact, int]) -> None:
    os.close(opened[1])


def _chunk(descriptor: int, offset: int, end: int) -> tuple[pb.DownloadResponse, int]:
    """Read the next bytes before `end`; return them and where they end. There are none only at the end."""
    data = os.pread(descriptor, min(DOWNLOAD_CHUNK_BYTES, end - offset), offset)
    if not data and offset < end:
        raise RuntimeError(f"an artifact ends at {offset}, not at {end}")
    response = pb.DownloadResponse(offset=offset, data=data, crc32c=google_crc32c.value(data))
    return response, offset + len(data)
