"""The least that a transfer by grpcio can be: raw bytes in messages of 1 MiB, written or read in a loop, without any checksum.

    python scripts/transfers/bare.py aio|sync FOLDER     serves, and prints its address

An upload's first message names the file in FOLDER, which is fsynced before the answer; a download names it in its request.
There is one for each of grpcio's two APIs; the faster one is the peer.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

SERVICE = "bench.BareFiles"
CHUNK_BYTES = 1 << 20
THREADS = 16


def _as_is(data: bytes) -> bytes:
    return data


def _handlers(upload: Any, download: Any) -> grpc.GenericRpcHandler:  # noqa: ANN401 - grpcio has no types for both
    return grpc.method_handlers_generic_handler(
        SERVICE,
        {
            "Upload": grpc.stream_unary_rpc_method_handler(upload, _as_is, _as_is),
            "Download": grpc.unary_stream_rpc_method_handler(download, _as_is, _as_is),
        },
    )


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while data := file.read(CHUNK_BYTES):
            yield data


def serve_sync(folder: Path) -> None:
    """Serve by threads until the process is killed."""

    def upload(messages: Iterator[bytes], _context: object) -> bytes:
        with (folder / next(messages).decode()).open("wb", buffering=0) as file:
            for message in messages:
                file.write(message)
            os.fsync(file.fileno())
        return b"done"

    def download(name: bytes, _context: object) -> Iterator[bytes]:
        return _pieces(folder / name.decode())

    server = grpc.server(ThreadPoolExecutor(THREADS))
    server.add_generic_rpc_handlers((_handlers(upload, download),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    server.wait_for_termination()


async def serve_aio(folder: Path) -> None:
    """Serve by an event loop until the process is killed. Files are written and read on the loop: that is fastest."""

    async def upload(messages: AsyncIterator[bytes], _context: object) -> bytes:
        with (folder / (await anext(messages)).decode()).open("wb", buffering=0) as file:
            async for message in messages:
                file.write(message)
            await asyncio.to_thread(os.fsync, file.fileno())
        return b"done"

    async def download(name: bytes, _context: object) -> AsyncIterator[bytes]:
        for data in _pieces(folder / name.decode()):
            yield data

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_handlers(upload, download),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


def upload_sync(address: str, source: Path, name: str) -> None:
    """Send a file."""

    def messages() -> Iterator[bytes]:
        yield name.encode()
        yield from _pieces(source)

    with grpc.insecure_channel(address) as channel:
        channel.stream_unary(f"/{SERVICE}/Upload", _as_is, _as_is)(messages())


def download_sync(address: str, name: str, target: Path) -> None:
    """Fetch a file, and fsync it."""
    with grpc.insecure_channel(address) as channel, target.open("wb", buffering=0) as file:
        for message in channel.unary_stream(f"/{SERVICE}/Download", _as_is, _as_is)(name.encode()):
            file.write(message)
        os.fsync(file.fileno())


async def upload_aio(address: str, source: Path, name: str) -> None:
    """Send a file."""
    async with grpc.aio.insecure_channel(address) as channel:
        call = channel.stream_unary(f"/{SERVICE}/Upload", _as_is, _as_is)()
        await call.write(name.encode())
        for data in _pieces(source):
            await call.write(data)
        await call.done_writing()
        await call


async def download_aio(address: str, name: str, target: Path) -> None:
    """Fetch a file, and fsync it."""
    async with grpc.aio.insecure_channel(address) as channel:
        with target.open("wb", buffering=0) as file:
            async for message in channel.unary_stream(f"/{SERVICE}/Download", _as_is, _as_is)(name.encode()):
                file.write(message)
            await asyncio.to_thread(os.fsync, file.fileno())


if __name__ == "__main__":
    if sys.argv[1] == "sync":
        serve_sync(Path(sys.argv[2]))
    else:
        asyncio.run(serve_aio(Path(sys.argv[2])))
