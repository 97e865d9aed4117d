"""A TCP proxy that counts what clients send, and cuts at an exact byte of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

READ_BYTES = 1 << 16


class CuttingProxy:
    """Passes bytes on until it is to cut; from then on it takes no further byte of any connection.

    Args:
        server_address: where connections go, asked for each time: a server may come back elsewhere.
        refuses: asked of what clients send; it ends their connection, and does not get there.
    """

    def __init__(
        self, server_address: Callable[[], str], refuses: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        self._server_address = server_address
        self._refuses = refuses
        #: of clients, over all connections
        self.sent_bytes = 0
        self.target = ""
        self._cut_at: int | None = None
        self._is_cut = asyncio.Event()
        self._connections: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    def cut_after(self, byte_count: int) -> None:
        """Cut when clients have sent so many bytes more."""
        self._is_cut.clear()
        self._cut_at = self.sent_bytes + byte_count

    async def cut(self) -> None:
        """Return when it has cut: nobody has got, or will get, another byte."""
        await self._is_cut.wait()

    def mend(self) -> None:
        """Pass bytes of new connections on."""
        self._cut_at = None
        self._is_cut.clear()

    async def close(self) -> None:
        """End all connections: clients may keep some for calls to come."""
        for each in self._connections:
            each.transport.abort()
        if self._serving:
            await asyncio.wait(self._serving)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)
        if self._is_cut.is_set():
            writer.close()
            return
        with suppress(OSError):
            host, _, port = self._server_address().rpartition(":")
            server_reader, server_writer = await asyncio.open_connection(host, int(port))
            both = {writer, server_writer}
            self._connections |= both
            ways = [
                asyncio.create_task(self._pass_on(reader, server_writer, counts=True)),
                asyncio.create_task(self._pass_on(server_reader, writer, counts=False)),
            ]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            for each in both:
                each.transport.abort()
            self._connections -= both
        writer.close()

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if counts and self._refuses(data):
                    return
                if counts:  # as of now: a cut may have been asked for since the read began
                    data = data[: self._allowed()]
                writer.write(data)
                await writer.drain()
                if not counts:
                    continue
                self.sent_bytes += len(data)
                if self.sent_bytes == self._cut_at:
                    self._is_cut.set()
                    for each in self._connections:
                        each.transport.abort()
                    return

    def _allowed(self) -> int:
        return READ_BYTES if self._cut_at is None else min(READ_BYTES, self._cut_at - self.sent_bytes)


@asynccontextmanager
async def cutting_proxy(
    server_address: Callable[[], str], refuses: Callable[[bytes], bool] = lambda _: False
) -> AsyncIterator[CuttingProxy]:
    """Have a proxy; its `target` is where clients connect."""
    proxy = CuttingProxy(server_address, refuses)
    # no buffer of its own: what it has read it has passed on
    listener = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=READ_BYTES)
    host, port = listener.sockets[0].getsockname()
    proxy.target = f"{host}:{port}"
    async with listener:
        yield proxy
        await proxy.close()
