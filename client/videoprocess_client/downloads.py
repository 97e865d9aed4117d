"""Resumable downloads into a file that appears whole, with the right digest, or not at all."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
from contextlib import aclosing, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

import google_crc32c
from grpc import aio

from videoprocess.v1 import file_transfer_pb2 as pb
from videoprocess.v1.report_pb2 import Artifact
from videoprocess_client.errors import ConnectionFailed, DataLoss, Unsupported, VideoProcessError
from videoprocess_client.freed_memory import keep_freed_memory
from videoprocess_client.link import Link
from videoprocess_client.retry import may_pass
from videoprocess_client.signed_urls import SignedUrlError, SignedUrls
from videoprocess_client.transfer_progress import TransferProgress
from videoprocess_client.uploads import STALL_SECONDS

_DownloadCall: TypeAlias = "aio.UnaryStreamCall[pb.DownloadRequest, pb.DownloadResponse]"
_WRITE_OUT_BYTES = 8 << 20
# Where a file system has no hard links, e.g. FAT.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


class Download:
    """One result on its way into a file."""

    def __init__(
        self,
        link: Link,
        artifact_id: str,
        target: Path,
        *,
        overwrite: bool = False,
        on_progress: TransferProgress | None = None,
    ) -> None:
        self._link = link
        self._artifact_id = artifact_id
        self._target = target
        self._overwrite = overwrite
        self._on_progress = on_progress
        self._artifact: Artifact | None = None
        self._offset = 0
        self._hash = hashlib.sha256()

    async def run(self) -> Artifact:
        """Fetch the file and put it in place; leaves nothing behind when that fails.

        Raises:
            FileExistsError: There is a file at the target, and it may not be replaced.
            DataLoss: What arrived is not what its SHA-256 says.
        """
        if not self._overwrite:
            _refuse_existing(self._target)
        keep_freed_memory()
        temp = self._target.with_name(f".videoprocess-{secrets.token_hex(8)}.part")
        try:
            with temp.open("xb", buffering=0) as file:
                await self._fetch(file)
                artifact = self._checked()
                await asyncio.to_thread(_sync, file)
            _put_in_place(temp, self._target, overwrite=self._overwrite)
        finally:
            temp.unlink(missing_ok=True)
        return artifact

    async def _fetch(self, file: BinaryIO) -> None:
        if self._link.signed_urls is not None:
            await self._fetch_past(file, self._link.signed_urls)
        patience = self._link.patience()
        while True:
            before = self._offset
            try:
                await self._receive(file)
            except (VideoProcessError, aio.AioRpcError) as error:
                failure = self._link.error(error) if isinstance(error, aio.AioRpcError) else error
                if not may_pass(failure) and failure.reason != "CHECKSUM_MISMATCH":
                    raise failure from error
                if self._offset > before:
                    patience.renew()
                await patience.pause(failure)
            else:
                return

    async def _fetch_past(self, file: BinaryIO, signed_urls: SignedUrls) -> None:
        """Fetch what comes past the service; a URL that ceases to work on the way is asked for anew."""
        request = pb.GetDownloadUrlRequest(user_id=self._link.user_id, artifact_id=self._artifact_id)
        while True:
            before = self._offset
            try:
                found = await self._link.call(self._link.files.GetDownloadUrl, request)
                self._artifact = found.artifact
                async with aclosing(signed_urls.get(found.url, before)) as pieces:
                    async for data in pieces:
                        await self._keep(file, data)
            except (Unsupported, SignedUrlError) as error:
                if self._offset > before:
                    continue
                self._link.take_detour(getattr(error, "message", "") or str(error))
            return

    async def _receive(self, file: BinaryIO) -> None:
        """Append what one stream brings, from the offset reached on."""
        request = pb.DownloadRequest(
            user_id=self._link.user_id, artifact_id=self._artifact_id, offset=self._offset
        )
        call: _DownloadCall = self._link.files.Download(request)
        appending: asyncio.Task[None] | None = None
        try:
            while (message := await _next(call)) is not None:
                self._link.answered()
                if appending is not None:
                    await appending
                appending = asyncio.create_task(self._append(file, message))  # while the next one comes
        finally:
            call.cancel()
            if appending is not None:
                await asyncio.wait({appending})
                appending.exception()  # is seen, also where another error counts
        if appending is not None:
            await appending
        if self._artifact is None or self._offset < self._artifact.size_bytes:
            raise ConnectionFailed("STREAM_ENDED", "The service ended the download before it was complete.")

    async def _append(self, file: BinaryIO, message: pb.DownloadResponse) -> None:
        if message.HasField("artifact"):
            if self._artifact is not None and self._artifact.sha256 != message.artifact.sha256:
                raise DataLoss("ARTIFACT_CHANGED", "The file changed on the server while it was fetched.")
            self._artifact = message.artifact
        if message.offset != self._offset:
            raise DataLoss("CHECKSUM_MISMATCH", "The bytes are not those that follow.")
        await self._keep(file, message.data, message.crc32c)

    async def _keep(self, file: BinaryIO, data: bytes, crc32c: int | None = None) -> None:
        """Write the next bytes where all before them are; what came without a checksum is checked at the end."""
        await asyncio.to_thread(self._write, file, data, crc32c)
        self._offset += len(data)
        if self._on_progress is not None and self._artifact is not None:
            self._on_progress(self._offset, self._artifact.size_bytes)

    def _write(self, file: BinaryIO, data: bytes, crc32c: int | None) -> None:
        if crc32c not in (None, google_crc32c.value(data)):
            raise DataLoss("CHECKSUM_MISMATCH", "The bytes were damaged on the way.")
        _write_whole(file.fileno(), data, self._offset)
        self._hash.update(data)

    def _checked(self) -> Artifact:
        artifact = self._artifact
        if (
            artifact is None
            or self._offset != artifact.size_bytes
            or self._hash.hexdigest() != artifact.sha256
        ):
            raise DataLoss("DIGEST_MISMATCH", "What was fetched is not what its SHA-256 says.")
        return artifact


async def _next(call: _DownloadCall) -> pb.DownloadResponse | None:
    """The next message; None at the end."""
    try:
        async with asyncio.timeout(STALL_SECONDS):
            message = await call.read()
    except TimeoutError as error:
        raise ConnectionFailed("STALLED", "The service sent nothing for too long.") from error
    return message if isinstance(message, pb.DownloadResponse) else None


def _write_whole(descriptor: int, data: bytes, offset: int) -> None:
    end, rest = offset + len(data), memoryview(data)
    while rest:
        rest = rest[os.pwrite(descriptor, rest, end - len(rest)) :]
    _write_out(descriptor, offset, end)


def _write_out(descriptor: int, offset: int, end: int) -> None:
    """Have the kernel begin to write the pieces that have become whole, so that `fsync` has little left to wait for."""
    begin, until = (position // _WRITE_OUT_BYTES * _WRITE_OUT_BYTES for position in (offset, end))
    if until > begin and hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, begin, until - begin, os.POSIX_FADV_DONTNEED)


def _sync(file: BinaryIO) -> None:
    os.fsync(file.fileno())


def _put_in_place(temp: Path, target: Path, *, overwrite: bool) -> None:
    if overwrite:
        temp.replace(target)
    else:
        _rename_without_replace(temp, target)
    with suppress(OSError):  # some file systems cannot sync a directory; the file itself is safe
        directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _rename_without_replace(temp: Path, target: Path) -> None:
    try:
        os.link(temp, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _refuse_existing(target)
        temp.rename(target)


def _refuse_existing(target: Path) -> None:
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
