"""HTTP/2 frames by hand: what no well-behaved client sends."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, CONTINUATION = 0, 1, 3, 4, 6, 7, 9
ACK = END_STREAM = 1
END_HEADERS = 4
GET_VIDEO = "/videoprocess.v1.VideoCatalogService/GetVideo"
SUBSCRIBE = "/videoprocess.v1.VideoProcessCallbackService/Subscribe"
UPLOAD = "/videoprocess.v1.FileTransferService/Upload"
HEALTH = "/grpc.health.v1.Health/Check"
#: a whole gRPC message of no bytes
EMPTY_MESSAGE = bytes(5)
Header = tuple[bytes, bytes]


@dataclass(frozen=True)
class Frame:
    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _text(text: bytes) -> bytes:
    """A string as HPACK has it, not compressed."""
    if len(text) < 127:
        return bytes([len(text)]) + text
    rest, digits = len(text) - 127, []
    while rest >= 128:
        digits.append(rest % 128 + 128)
        rest //= 128
    return bytes([127, *digits, rest]) + text


def literal(name: bytes, value: bytes) -> bytes:
    """A header that no table remembers."""
    return b"\x00" + _text(name) + _text(value)


def header_block(path: str, more: Sequence[Header] = ()) -> bytes:
    usual = [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", path.encode()),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ]
    return b"".join(literal(name, value) for name, value in (*usual, *more))


def begin(path: str, stream: int, more: Sequence[Header] = ()) -> bytes:
    """The headers of a call."""
    return frame(HEADERS, END_HEADERS, stream, header_block(path, more))


def call(path: str, stream: int, message: bytes = EMPTY_MESSAGE) -> bytes:
    """A whole call of one message."""
    return begin(path, stream) + frame(DATA, END_STREAM, stream, message)


class RawConnection:
    """A connection that sends what it is told to; a context manager.

    Args:
        address: of the service.
        preface: whether the connection begins as HTTP/2 has it.
        settings: whether the first frame is sent.
    """

    def __init__(self, address: str, *, preface: bool = True, settings: bool = True) -> None:
        host, _, port = address.rpartition(":")
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.closed = False
        self._buffer = b""
        self._speaks = preface and settings
        self.send((PREFACE if preface else b"") + (frame(SETTINGS, 0, 0) if settings else b""))

    def send(self, data: bytes) -> bool:
        """Sends; returns whether the other end still takes it."""
        try:
            self.socket.settimeout(10)
            self.socket.sendall(data)
        except OSError:
            self.closed = True
        return not self.closed

    def read(self, seconds: float, *until: int) -> list[Frame]:
        """Reads until the other end closes, the time is over, or one of these kinds came; answers as a client has to."""
        deadline, frames = time.monotonic() + seconds, []
        while not self.closed and not any(found.kind in until for found in frames):
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self.socket.settimeout(left)
            try:
                data = self.socket.recv(1 << 16)
            except TimeoutError:
                break
            except OSError:
                data = b""
            self.closed = not data
            self._buffer += data
            while (found := self._next()) is not None:
                frames.append(found)
                if self._speaks and found.kind in (SETTINGS, PING) and not found.flags & ACK:
                    answer = found.payload if found.kind == PING else b""
                    self.send(frame(found.kind, ACK, 0, answer))
        return frames

    def _next(self) -> Frame | None:
        size = int.from_bytes(self._buffer[:3])
        if len(self._buffer) < 9 + size:
            return None
        kind, flags, stream = self._buffer[3], self._buffer[4], int.from_bytes(self._buffer[5:9])
        payload, self._buffer = self._buffer[9 : 9 + size], self._buffer[9 + size :]
        return Frame(kind, flags, stream, payload)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def count(frames: Sequence[Frame], kind: int) -> int:
    return sum(found.kind == kind for found in frames)
