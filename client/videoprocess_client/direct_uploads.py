"""The parts of an upload, written past the service by signed URLs. What is missing then is the stream's to send."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from videoprocess.v1 import file_transfer_pb2 as pb
from videoprocess_client.errors import Unsupported
from videoprocess_client.hashed_file import HashedFile
from videoprocess_client.link import Link
from videoprocess_client.signed_urls import SignedUrlError, SignedUrls
from videoprocess_client.transfer_progress import TransferProgress

# Of 8 MiB each, in memory while they are sent.
PARTS_AT_ONCE = 4


class DirectUpload:
    """One file on its way into the service's store."""

    def __init__(
        self,
        link: Link,
        signed_urls: SignedUrls,
        file: HashedFile,
        header: pb.UploadHeader,
        on_progress: TransferProgress | None,
    ) -> None:
        self._link = link
        self._signed_urls = signed_urls
        self._file = file
        self._request = pb.GetUploadUrlsRequest(header=header)
        self._on_progress = on_progress
        self._room = asyncio.Semaphore(PARTS_AT_ONCE)
        self._done_bytes = 0

    async def run(self) -> int:
        """Write parts until all are there, or a round of them brings nothing; return how many bytes were written."""
        written, before, reason = 0, -1, ""
        while True:
            try:
                asked = await self._link.call(self._link.files.GetUploadUrls, self._request)
            except Unsupported as error:
                self._link.take_detour(error.message)
                return written
            if not asked.parts:
                return written
            if asked.committed_size_bytes == before:
                self._link.take_detour(reason)
                return written
            before = self._done_bytes = asked.committed_size_bytes
            round_bytes, reason = await self._write(asked.parts)
            written += round_bytes

    async def _write(self, parts: Sequence[pb.UploadPart]) -> tuple[int, str]:
        """Write parts side by side; return their bytes, and why one failed: then no other is begun."""
        written, reason = 0, ""

        async def write(part: pb.UploadPart) -> None:
            nonlocal written, reason
            async with self._room:
                if reason:
                    return
                try:
                    await self._signed_urls.put(part.url, await self._file.part(part.offset, part.size_bytes))
                except SignedUrlError as error:
                    reason = str(error)
                    return
            written += part.size_bytes
            self._done_bytes += part.size_bytes
            if self._on_progress is not None:
                self._on_progress(self._done_bytes, self._file.size_bytes)

        try:
            async with asyncio.TaskGroup() as group:
                for part in parts:
                    group.create_task(write(part))
        except ExceptionGroup as errors:  # of the file, or of who is told
            raise errors.exceptions[0] from None
        return written, reason
