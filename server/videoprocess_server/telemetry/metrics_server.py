"""Serves the metrics over plain HTTP/1: one path, few connections, each of one short request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus

import structlog

log = structlog.get_logger(__name__)

PATH = "/metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
#: at once; what comes beyond is hung up on
MAX_CONNECTIONS = 16
MAX_HEAD_BYTES = 8192
#: for a request to come, and for its answer to be taken
REQUEST_SECONDS = 5.0
ANSWER_SECONDS = 15.0


class MetricsListenError(Exception):
    """The metrics cannot be served; the text is one line that says what to do."""


@asynccontextmanager
async def serving_metrics(address: str, scrape: Callable[[], bytes]) -> AsyncIterator[str]:
    """Serve in here, and yield the address with its port.

    Args:
        address: HOST:PORT; port 0 picks a free one.
        scrape: makes the text, on a thread of its own.

    Raises:
        MetricsListenError: it cannot listen there.
    """
    host, _, port = address.rpartition(":")
    handler = _Handler(scrape)
    try:
        server = await asyncio.start_server(handler.serve, host.strip("[]"), int(port), limit=MAX_HEAD_BYTES)
    except OSError as error:
        raise MetricsListenError(
            f"cannot serve metrics on {address}: {error.strerror or error}; choose another --metrics-listen"
        ) from error
    try:
        bound = f"{host}:{server.sockets[0].getsockname()[1]}"
        log.info("metrics_serving", address=bound, path=PATH)
        yield bound
    finally:
        server.close()
        await handler.close()


class _Handler:
    """Answers connections, each once.

    Args:
        scrape: see `serving_metrics`.
    """

    def __init__(self, scrape: Callable[[], bytes]) -> None:
        self._scrape = scrape
        self._open: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Read a request, answer it, hang up."""
        task = asyncio.current_task()
        assert task is not None
        try:
            if len(self._open) < MAX_CONNECTIONS:
                self._open.add(task)
                await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()  # whoever it is has gone, says too much or takes nothing
        except asyncio.CancelledError:
            pass  # the service stops
        finally:
            self._open.discard(task)
            writer.transport.abort() if writer.is_closing() else writer.close()

    async def close(self) -> None:
        """Hang up on everybody."""
        for task in tuple(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        status, body = await self._respond(method, path)
        lines = [
            f"HTTP/1.1 {status.value} {status.phrase}",
            f"Content-Type: {CONTENT_TYPE}",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(["Allow: GET, HEAD"] if status is HTTPStatus.METHOD_NOT_ALLOWED else []),
        ]
        writer.write("\r\n".join((*lines, "", "")).encode("latin-1") + (b"" if method == "HEAD" else body))
        async with asyncio.timeout(ANSWER_SECONDS):
            await writer.drain()
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _respond(self, method: str, path: str) -> tuple[HTTPStatus, bytes]:
        if path != PATH:
            return HTTPStatus.NOT_FOUND, f"metrics are at {PATH}\n".encode()
        if method not in ("GET", "HEAD"):
            return HTTPStatus.METHOD_NOT_ALLOWED, b"GET it\n"
        try:
            return HTTPStatus.OK, await asyncio.to_thread(self._scrape)
        except Exception:
            log.exception("scrape_failed")
            return HTTPStatus.INTERNAL_SERVER_ERROR, b"the service's log tells why\n"
