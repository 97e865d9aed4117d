"""The file of an upload: read in pieces from anywhere, and hashed once, where the event loop does not wait for it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from dataclasses import dataclass
from threading import Lock
from typing import BinaryIO

import google_crc32c

from videoprocess.v1 import file_transfer_pb2 as pb
from videoprocess_client.errors import DataLoss

# gRPC's default limit is 4 MiB, the service's for data 3 MiB; 1 MiB is what the contract calls a good size.
CHUNK_BYTES = 1 << 20
# They are in memory while as many are sent.
MESSAGES_AT_ONCE = 4


@dataclass(frozen=True)
class Message:
    """A message with bytes of the file, made where the event loop does not wait for it."""

    request: pb.UploadRequest
    #: where its bytes end in the file
    end: int
    #: whether it finishes the upload
    is_last: bool


class HashedFile:
    """A file that is read in pieces from anywhere and hashed from its beginning, each byte once."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._lock = Lock()  # a read that was given up may still run when the next one begins
        self._hash = hashlib.sha256()
        self._hashed_bytes = 0
        self.size_bytes = file.seek(0, os.SEEK_END)

    async def messages(self, offset: int, chunk_bytes: int) -> list[Message]:
        """Read the next messages, as many as are worth a change of threads; the last one of the file finishes the upload."""
        return await asyncio.to_thread(self._messages, offset, chunk_bytes)

    async def part(self, offset: int, size_bytes: int) -> bytes:
        """Some bytes of the file."""
        return await asyncio.to_thread(self._part, offset, size_bytes)

    async def sha256(self) -> str:
        """The digest of the whole file."""
        return await asyncio.to_thread(self._digest)

    def _messages(self, offset: int, chunk_bytes: int) -> list[Message]:
        messages = [self._message(offset, chunk_bytes)]
        while not messages[-1].is_last and len(messages) < MESSAGES_AT_ONCE:
            messages.append(self._message(messages[-1].end, chunk_bytes))
        return messages

    def _message(self, offset: int, chunk_bytes: int) -> Message:
        with self._lock:
            self._hash_up_to(offset)
            data = self._read_exactly(offset, chunk_bytes)
            self._hash.update(memoryview(data)[self._hashed_bytes - offset :])
            self._hashed_bytes = max(self._hashed_bytes, offset + len(data))
            request = pb.UploadRequest(offset=offset, data=data, crc32c=google_crc32c.value(data))
            end = offset + len(data)
            if end == self.size_bytes:
                request.finish.size_bytes = end
                request.finish.sha256 = self._hash.hexdigest()
            return Message(request, end, is_last=end == self.size_bytes)

    def _part(self, offset: int, size_bytes: int) -> bytes:
        with self._lock:
            return self._read_exactly(offset, size_bytes)

    def _digest(self) -> str:
        with self._lock:
            self._hash_up_to(self.size_bytes)
            return self._hash.hexdigest()

    def _hash_up_to(self, offset: int) -> None:
        while self._hashed_bytes < offset:
            data = self._read_exactly(self._hashed_bytes, CHUNK_BYTES)[: offset - self._hashed_bytes]
            self._hash.update(data)
            self._hashed_bytes += len(data)

    def _read_exactly(self, offset: int, most_bytes: int) -> bytes:
        wanted = min(most_bytes, self.size_bytes - offset)
        self._file.seek(offset)
        data = self._file.read(wanted)
        if len(data) != wanted:
            raise DataLoss("SOURCE_CHANGED", "The file became shorter while it was uploaded.")
        return data
