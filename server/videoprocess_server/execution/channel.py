"""Messages over a stream socket: four bytes of length, then the body; a descriptor may travel along."""

from __future__ import annotations

import socket
import time

from videoprocess_server.execution.codec import CodecError, Message, decode, encode

#: a plan of a day of video is about 4 MiB
MAX_MESSAGE_BYTES = 64 << 20

_LENGTH_BYTES = 4


class Channel:
    """One end. Used by one thread at a time.

    EOFError means that the other end is gone, whether that was found by writing or by reading.
    """

    def __init__(self, end: socket.socket) -> None:
        self._socket = end

    def fileno(self) -> int:
        """Return the descriptor to poll."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close this end."""
        self._socket.close()

    def send(self, message: Message, *, fd: int | None = None, timeout_seconds: float | None = None) -> None:
        """Send a message, and a copy of a descriptor.

        Raises:
            EOFError: the other end is gone.
            TimeoutError: the other end does not read.
            CodecError: the message is too large; nothing was sent.
        """
        body = encode(message)
        if len(body) > MAX_MESSAGE_BYTES:
            raise CodecError(f"a {type(message).__name__} of {len(body)} bytes is too large")
        length = len(body).to_bytes(_LENGTH_BYTES, "big")
        self._socket.settimeout(timeout_seconds)
        try:
            if fd is None:
                self._socket.sendall(length)
            else:
                self._send_with_descriptor(length, fd)
            self._socket.sendall(body)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise EOFError from error

    def receive(self, *, timeout_seconds: float | None = None) -> Message:
        """Wait for a whole message.

        Raises:
            EOFError: the other end is gone.
            TimeoutError: no whole message came in time.
            CodecError: what came is no message.
        """
        deadline = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        length = self._read(_LENGTH_BYTES, deadline)
        return self._read_body(length, deadline)

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
        length = start + self._read(_LENGTH_BYTES - len(start), None)
        return self._read_body(length, None), fds[0] if fds else None

    def _send_with_descriptor(self, length: bytes, fd: int) -> None:
        sent = socket.send_fds(self._socket, [length], [fd])
        self._socket.sendall(length[sent:])

    def _read_body(self, length: bytes, deadline: float | None) -> Message:
        size = int.from_bytes(length, "big")
        if size > MAX_MESSAGE_BYTES:
            raise CodecError(f"a message of {size} bytes is too large")
        return decode(self._read(size, deadline))

    def _read(self, size: int, deadline: float | None) -> bytes:
        received = bytearray()
        while len(received) < size:
            self._socket.settimeout(_remaining(deadline))
            try:
                part = self._socket.recv(min(size - len(received), 1 << 20))
            except ConnectionResetError as error:
                raise EOFError from error
            if not part:
                raise EOFError
            received += part
        return bytes(received)


def _remaining(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise TimeoutError
    return remaining
