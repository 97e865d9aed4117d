"""Messages over a stream socket: four bytes of length, then the body; a descriptor may travel along."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from videoprocess_server.execution.codec import CodecError, Message, decode, encode

#: a plan of a day of video is about 4 MiB
MAX_MESSAGE_BYTES = 64 << 20

_LENGTH_BYTES = 4
_LARGEST_READ_BYTES = 1 << 20

_Done = TypeVar("_Done")


#: asked before each wait: seconds to wait at most until it is asked again, None for as long as it takes;
#: raises TimeoutError when it is over
Patience = Callable[[], float | None]


def endless() -> None:
    """Wait as long as it takes."""


def within(seconds: float) -> Patience:
    """Return the patience that is over after so many seconds from now."""
    deadline = time.monotonic() + seconds

    def patience() -> float:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        return remaining

    return patience


class Channel:
    """One end. One thread reads; any may send.

    EOFError means that the other end is gone, whether that was found by writing or by reading.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._sending = threading.Lock()

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def shut_down(self) -> None:
        """Let whoever waits at either end find the other gone; from any thread."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def send(self, message: Message, *, fd: int | None = None, patience: Patience = endless) -> None:
        """Send a message, and a copy of a descriptor.

        Raises:
            EOFError: the other end is gone.
            TimeoutError: the other end does not read.
            CodecError: the message is too large; nothing was sent.
        """
        body = encode(message)
        if len(body) > MAX_MESSAGE_BYTES:
            raise CodecError(f"a {type(message).__name__} of {len(body)} bytes is too large")
        self.send_body(body, fd=fd, patience=patience)

    def send_body(self, body: bytes, *, fd: int | None = None, patience: Patience = endless) -> None:
        """Send a message that is bytes already; see `send`."""
        length = len(body).to_bytes(_LENGTH_BYTES, "big")
        with self._sending:
            try:
                sent = 0 if fd is None else self._send_descriptor(length, fd, patience)
                self._send_all(length[sent:], patience)
                self._send_all(body, patience)
            except (BrokenPipeError, ConnectionResetError) as error:
                raise EOFError from error

    def comes_within(self, seconds: float) -> bool:
        """Wait until anything can be received, the other end's end included; return False if that takes longer."""
        readable = select.poll()
        readable.register(self._socket, select.POLLIN)
        return bool(readable.poll(seconds * 1000))

    def receive(self, *, patience: Patience = endless) -> Message:
        """Wait for a whole message. What is there already is read whatever patience says.

        Raises:
            EOFError: the other end is gone.
            TimeoutError: no whole message came in time.
            CodecError: what came is no message.
        """
        length = self._read(_LENGTH_BYTES, patience)
        return self._read_body(length, patience)

    def receive_with_descriptor(self) -> tuple[Message, int | None]:
        """Wait for a whole message and the descriptor that came along; the caller closes it.

        Raises:
            EOFError: the other end is gone.
            CodecError: what came is no message.
        """
        self._socket.settimeout(None)
        start, fds, _flags, _address = socket.recv_fds(
            self._socket, _LENGTH_BYTES, 1, socket.MSG_CMSG_CLOEXEC
        )
        if not start:
            raise EOFError
        length = start + self._read(_LENGTH_BYTES - len(start), endless)
        return self._read_body(length, endless), fds[0] if fds else None

    def receive_what_is_there(self, size: int) -> bytes:
        """Return up to so many bytes of whatever comes, once `fileno` is readable; none once the other end is gone."""
        try:
            return self._socket.recv(size, socket.MSG_DONTWAIT)
        except ConnectionResetError:
            return b""

    def _send_descriptor(self, length: bytes, fd: int, patience: Patience) -> int:
        return self._when_possible(partial(socket.send_fds, self._socket, [length], [fd]), patience)

    def _send_all(self, data: bytes, patience: Patience) -> None:
        left = memoryview(data)
        while left:
            left = left[self._when_possible(partial(self._socket.send, left), patience) :]

    def _read_body(self, length: bytes, patience: Patience) -> Message:
        size = int.from_bytes(length, "big")
        if size > MAX_MESSAGE_BYTES:
            raise CodecError(f"a message of {size} bytes is too large")
        return decode(self._read(size, patience))

    def _read(self, size: int, patience: Patience) -> bytes:
        received = bytearray()
        while len(received) < size:
            wanted = min(size - len(received), _LARGEST_READ_BYTES)
            try:
                part = self._when_possible(partial(self._socket.recv, wanted), patience)
            except ConnectionResetError as error:
                raise EOFError from error
            if not part:
                raise EOFError
            received += part
        return bytes(received)

    def _when_possible(self, operation: Callable[[], _Done], patience: Patience) -> _Done:
        self._socket.settimeout(0)
        while True:
            try:
                return operation()
            except (BlockingIOError, TimeoutError):
                self._socket.settimeout(patience())
