"""Passing open files to a service on the same machine, which copies them: nothing goes through gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

from videoprocess.v1 import types_pb2, video_process_service_pb2
from videoprocess_client.errors import ConnectionFailed, Unsupported, VideoProcessError, from_status_name
from videoprocess_client.link import Link

# Answered at once, unless the machine is out of breath; the service itself waits 5 s for the request.
PASS_SECONDS = 15.0
MAX_ANSWER_BYTES = 64 * 1024


@dataclass(frozen=True)
class OpenFile:
    """A file that is open for reading, see `opened`. It stays the caller's: keep it open until Prepare has answered."""

    #: with a descriptor of a regular file, or the descriptor itself
    file: IO[Any] | int
    #: for people, without directories
    file_name: str

    @property
    def descriptor(self) -> int:
        """The descriptor. What was written through the file is handed to the system before."""
        if isinstance(self.file, int):
            return self.file
        if self.file.writable():
            self.file.flush()
        return self.file.fileno()


#: what Prepare can be given
Source: TypeAlias = types_pb2.FileDescriptor | OpenFile


class FilePassing:
    """Passes files over the socket that the service names.

    Args:
        link: to the service.
    """

    def __init__(self, link: Link) -> None:
        self._link = link

    async def named(self, sources: Sequence[Source]) -> list[types_pb2.FileDescriptor]:
        """Return descriptors of all, each open file passed and named by a token; one that stands twice is passed once.

        Raises:
            Unsupported: The service takes no open files from here.
            InvalidArgument: A file is of a kind that cannot be passed.
        """
        tokens: dict[int, str] = {}
        for source in sources:
            if isinstance(source, OpenFile) and source.descriptor not in tokens:
                tokens[source.descriptor] = await self._passed(source)
        return [
            types_pb2.FileDescriptor(fd_token=tokens[source.descriptor])
            if isinstance(source, OpenFile)
            else source
            for source in sources
        ]

    async def _passed(self, file: OpenFile) -> str:
        """Pass a file and return its token, until that works or the patience is used up."""
        patience = self._link.patience()
        while True:
            # Asked each time: a service that was restarted may have another socket, and a token may be renewed.
            place = await self._place()
            line = {"user_id": self._link.user_id, "file_name": file.file_name}
            token = self._link.bearer_token()
            if token:
                line["token"] = token
            try:
                return await asyncio.to_thread(pass_file, place, file.descriptor, line)
            except VideoProcessError as error:
                await patience.pause_or_raise(self._link.refused(error))

    async def _place(self) -> Path:
        request = video_process_service_pb2.GetCapabilitiesRequest(user_id=self._link.user_id)
        capabilities = await self._link.call(self._link.service.GetCapabilities, request)
        if not capabilities.fd_socket:
            raise Unsupported(
                "FD_TOKENS_UNAVAILABLE", "The service takes no open files from here; upload them."
            )
        return Path(capabilities.fd_socket)


def pass_file(place: Path, descriptor: int, request: dict[str, Any]) -> str:
    """Pass one descriptor and return its token; blocks.

    Args:
        place: The service's Unix socket.
        descriptor: Of a regular file that is open for reading.
        request: The line of JSON that goes with it.

    Raises:
        ConnectionFailed: Nobody answers there.
        ServiceError: The service does not take it; `.reason` says why.
    """
    line = json.dumps(request).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PASS_SECONDS)
            with _short_name(place) as name:
                connection.connect(name)
            with suppress(BrokenPipeError, ConnectionResetError):  # it has answered already
                sent = socket.send_fds(connection, [line], [descriptor])
                connection.sendall(line[sent:])
            answer = _read_line(connection)
    except OSError as error:
        raise ConnectionFailed("UNAVAILABLE", f"{place}: {error.strerror or error}") from error
    return _token_of(answer)


def _read_line(connection: socket.socket) -> bytes:
    answer = bytearray()
    while not answer.endswith(b"\n") and len(answer) < MAX_ANSWER_BYTES:
        data = connection.recv(4096)
        if not data:
            break
        answer += data
    return bytes(answer)


def _token_of(line: bytes) -> str:
    try:
        answer = json.loads(line)
        if "fd_token" in answer:
            return str(answer["fd_token"])
        raise from_status_name(answer["status"], answer["reason"], answer["message"], answer["cam_ret_code"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConnectionFailed("UNAVAILABLE", "The answer is no answer of this service.") from error


@contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """A name of the path that fits into a socket's address, of 107 bytes."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)
