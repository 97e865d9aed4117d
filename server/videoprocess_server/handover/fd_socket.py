"""The Unix socket over which callers on this machine pass open files.

A connection is one request: a line of JSON and, along with its first bytes, one descriptor. It is answered with a line of
JSON and closed. Nothing is read from whom the kernel does not name as somebody who may.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import structlog

from videoprocess_server.engine.authorisation import Caller
from videoprocess_server.engine.passed_files import PassedFiles
from videoprocess_server.errors import VideoProcessError
from videoprocess_server.handover.listening import listening
from videoprocess_server.handover.messages import (
    MAX_REQUEST_BYTES,
    PassAnswer,
    PassRefusal,
    answer_line,
    bad_request,
    read_request,
    refusal_of,
)

log = structlog.get_logger(__name__)

MODE_OF_OWN_USER = 0o600
#: who connects is looked at by the kernel's word, not by the file's mode
MODE_OF_NAMED_USERS = 0o666
SUPERUSER = 0

#: of one connection, from its beginning to its answer
REQUEST_SECONDS = 5.0
#: connections at once; beyond it the oldest is ended, which has had most time to say what it wants
MAX_CONNECTIONS = 256
ACCEPTS_PER_TURN = 64
#: pause where the process is out of descriptors
PAUSE_SECONDS = 0.2
EXPIRY_SECONDS = 1.0
MAX_LOGGED_CHARACTERS = 64
#: a file system that does not answer holds one
OFFER_THREADS = 4

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid
_OUT_OF_DESCRIPTORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

#: the request's bearer token → who passes the file; VideoProcessError where it names nobody
Identify = Callable[[str], Caller]


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Who connected, as the kernel knows it."""

    pid: int
    uid: int

    @classmethod
    def of(cls, connection: socket.socket) -> Peer:
        """Return who connected."""
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _gid = _CREDENTIALS.unpack(credentials)
        return cls(pid=pid, uid=uid)


class FdSocket:
    """Takes descriptors, on the event loop.

    Args:
        passed: keeps them.
        user_ids: of the operating system's users who may pass files, besides the service's own and root.
        identify: see `Identify`.
        request_seconds: see `REQUEST_SECONDS`.
    """

    def __init__(
        self,
        passed: PassedFiles,
        user_ids: Collection[int],
        identify: Identify,
        request_seconds: float = REQUEST_SECONDS,
    ) -> None:
        self._passed = passed
        self._peers = frozenset(user_ids) | {os.geteuid(), SUPERUSER}
        self._mode = MODE_OF_NAMED_USERS if user_ids else MODE_OF_OWN_USER
        self._identify = identify
        self._request_seconds = request_seconds
        #: oldest first
        self._connections: dict[asyncio.Task[None], None] = {}

    @asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Take descriptors at a path.

        Raises:
            CannotListenError: see `listening`.
        """
        loop = asyncio.get_running_loop()
        threads = ThreadPoolExecutor(OFFER_THREADS, thread_name_prefix="fd")
        with listening(path, self._mode) as listener:
            self._passed.open(path)
            expiring = asyncio.create_task(self._expire(threads))
            loop.add_reader(listener, self._accept, listener, threads)
            try:
                yield
            finally:
                loop.remove_reader(listener)
                for task in [expiring, *self._connections]:
                    task.cancel()
                await asyncio.gather(expiring, *self._connections, return_exceptions=True)
                threads.shutdown(wait=False, cancel_futures=True)
                await asyncio.to_thread(self._passed.close)

    async def _expire(self, threads: ThreadPoolExecutor) -> None:
        """Close files that nobody came for soon after their time."""
        while True:
            await asyncio.sleep(EXPIRY_SECONDS)
            await asyncio.get_running_loop().run_in_executor(threads, self._passed.expire)

    def _accept(self, listener: socket.socket, threads: ThreadPoolExecutor) -> None:
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connection, _address = listener.accept()
            except OSError as error:
                if error.errno in _OUT_OF_DESCRIPTORS:
                    self._pause(listener, threads)
                return  # nobody else waits
            connection.setblocking(False)
            self._begin(connection, threads)

    def _pause(self, listener: socket.socket, threads: ThreadPoolExecutor) -> None:
        log.warning("fd_socket_out_of_descriptors")
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)

        def go_on() -> None:
            if listener.fileno() >= 0:
                loop.add_reader(listener, self._accept, listener, threads)

        loop.call_later(PAUSE_SECONDS, go_on)

    def _begin(self, connection: socket.socket, threads: ThreadPoolExecutor) -> None:
        if len(self._connections) >= MAX_CONNECTIONS:
            oldest = next(iter(self._connections))
            oldest.cancel()
            del self._connections[oldest]
        task = asyncio.create_task(self._serve(connection, threads))
        self._connections[task] = None
        task.add_done_callback(lambda ended: self._connections.pop(ended, None))

    async def _serve(self, connection: socket.socket, threads: ThreadPoolExecutor) -> None:
        """Answer one connection and close it; also where the task is cancelled."""
        busy = VideoProcessError("FD_SOCKET_BUSY", "too many connections: try again")
        answer: PassAnswer | PassRefusal = refusal_of(busy)
        with connection:
            try:
                async with asyncio.timeout(self._request_seconds):
                    answer = await self._answer(connection, threads)
            except TimeoutError:
                answer = refusal_of(bad_request(f"no request came within {self._request_seconds:g} s"))
            except VideoProcessError as error:
                log.info("file_not_taken", reason=error.reason, message=error.message[:200])
                answer = refusal_of(error)
            except OSError:
                return  # whoever it was is gone
            except Exception:
                log.exception("fd_socket_broke")
                answer = refusal_of(VideoProcessError("INTERNAL", "a fault of the service"))
            finally:
                with suppress(OSError):
                    connection.send(answer_line(answer), socket.MSG_NOSIGNAL)

    async def _answer(self, connection: socket.socket, threads: ThreadPoolExecutor) -> PassAnswer:
        peer = Peer.of(connection)
        if peer.uid not in self._peers:
            raise VideoProcessError("PEER_NOT_ALLOWED", f"the system's user {peer.uid} may not pass files")
        descriptors: list[int] = []
        try:
            line = await _receive(connection, descriptors)
            request = read_request(line)
            if not descriptors:
                raise bad_request("no descriptor came along")
            caller = self._identify(request.token)

            def offer() -> str:
                # Whoever takes it out of the list has to close it: this thread, or else the end of the connection.
                descriptor = descriptors.pop()
                return self._passed.offer(caller, request.user_id, request.file_name, descriptor)

            fd_token = await asyncio.get_running_loop().run_in_executor(threads, offer)
        finally:
            while descriptors:
                os.close(descriptors.pop())
        identity = {"identity": caller.identity[:MAX_LOGGED_CHARACTERS]} if caller.identity else {}
        log.info("file_passed", user_id=request.user_id, uid=peer.uid, pid=peer.pid, **identity)
        return PassAnswer(fd_token=fd_token, expires_in_seconds=self._passed.token_seconds)


async def _receive(connection: socket.socket, descriptors: list[int]) -> bytes:
    """Return the request's line; the descriptor that comes along is the list's.

    Raises:
        VideoProcessError: INVALID_FIELD.
    """
    line = bytearray()
    while b"\n" not in line:
        await _until_readable(connection)
        try:
            data, received, flags, _address = socket.recv_fds(
                connection, MAX_REQUEST_BYTES + 1 - len(line), 1, socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            continue
        descriptors += received
        line += data
        if flags & socket.MSG_CTRUNC or len(descriptors) > 1:
            raise bad_request("more than one descriptor came along, or the service is out of them")
        if not data:
            raise bad_request("the connection ended within the line")
        if len(line) > MAX_REQUEST_BYTES:
            raise bad_request(f"the line has more than {MAX_REQUEST_BYTES} bytes")
    first, _, more = bytes(line).partition(b"\n")
    if more:
        raise bad_request("a connection is for one line")
    return first


async def _until_readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    readable: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        loop.remove_reader(connection)
        if not readable.done():
            readable.set_result(None)

    loop.add_reader(connection, wake)
    try:
        await readable
    finally:
        loop.remove_reader(connection)
