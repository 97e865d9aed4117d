"""Connections that are not well-behaved HTTP/2: frames of junk, half-open ones, headers that never end, and more.

    python -m crowds.garbage ADDRESS COUNT

Whoever is hung up on connects again after a moment.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
GET_VIDEO = b"/videoprocess.v1.VideoCatalogService/GetVideo"
PAUSE_SECONDS = 0.5
SEED = 6

_random = random.Random(SEED)


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame of HTTP/2."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def header(name: bytes, value: bytes) -> bytes:
    """Return a short header, as HPACK has it without tables."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


HEADER_BLOCK = b"".join(
    header(name, value)
    for name, value in (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", GET_VIDEO),
        (b":authority", b"crowd"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)
BEGIN = PREFACE + frame(SETTINGS, 0, 0)


async def junk() -> AsyncIterator[bytes]:
    """Frames of random kinds and bytes."""
    yield BEGIN
    while True:
        size = _random.choice((0, 8, 100, 1000))
        stream = _random.choice((0, 1, 2, 3))
        yield frame(_random.randrange(12), _random.randrange(256), stream, _random.randbytes(size))
        await asyncio.sleep(0.05)


async def no_protocol() -> AsyncIterator[bytes]:
    """Random bytes."""
    while True:
        yield _random.randbytes(1000)
        await asyncio.sleep(0.2)


async def silent() -> AsyncIterator[bytes]:
    """Nothing."""
    yield b""
    await asyncio.Event().wait()


async def half_open() -> AsyncIterator[bytes]:
    """The preface, and nothing more."""
    yield PREFACE
    await asyncio.Event().wait()


async def slow_headers() -> AsyncIterator[bytes]:
    """A header every second, for ever."""
    yield BEGIN + frame(HEADERS, 0, 1, HEADER_BLOCK)
    number = 0
    while True:
        await asyncio.sleep(1.0)
        yield frame(CONTINUATION, 0, 1, header(b"x-%d" % number, b"y" * 50))
        number += 1


async def no_request() -> AsyncIterator[bytes]:
    """Calls without their message, up to what a connection may have."""
    yield BEGIN
    for stream in range(1, 200, 2):
        yield frame(HEADERS, END_HEADERS, stream, HEADER_BLOCK)
    await asyncio.Event().wait()


async def resets() -> AsyncIterator[bytes]:
    """Calls that are reset at once, ten a second."""
    yield BEGIN
    stream = 1
    while True:
        for _ in range(10):
            yield frame(HEADERS, END_HEADERS, stream, HEADER_BLOCK)
            yield frame(DATA, END_STREAM, stream, bytes(5)) + frame(RST_STREAM, 0, stream, (8).to_bytes(4))
            stream += 2
        await asyncio.sleep(1.0)


async def pings() -> AsyncIterator[bytes]:
    """A ping every 50 ms."""
    yield BEGIN
    while True:
        yield frame(PING, 0, 0, _random.randbytes(8))
        await asyncio.sleep(0.05)


KINDS: tuple[Callable[[], AsyncIterator[bytes]], ...] = (
    junk,
    no_protocol,
    silent,
    half_open,
    slow_headers,
    no_request,
    resets,
    pings,
)


async def misbehave(
    host: str, port: int, kind: Callable[[], AsyncIterator[bytes]], met: Counter[str]
) -> None:
    """Be one connection of a kind, again and again."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(host, port)
            met[f"{kind.__name__} connected"] += 1
            sending = asyncio.create_task(_send(writer, kind))
            try:
                while await reader.read(1 << 16):
                    pass
                met[f"{kind.__name__} hung up on"] += 1
            finally:
                sending.cancel()
                writer.transport.abort()
        await asyncio.sleep(PAUSE_SECONDS)


async def _send(writer: asyncio.StreamWriter, kind: Callable[[], AsyncIterator[bytes]]) -> None:
    with suppress(OSError):
        async for data in kind():
            writer.write(data)
            await writer.drain()


async def main(address: str, count: int) -> None:
    """Be so many connections."""
    host, _, port = address.rpartition(":")
    met: Counter[str] = Counter()
    tasks = [
        asyncio.create_task(misbehave(host, int(port), KINDS[index % len(KINDS)], met))
        for index in range(count)
    ]
    await asyncio.sleep(1.0)
    print(json.dumps({"ready": count}), flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(json.dumps({"met": dict(sorted(met.items()))}), flush=True)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
