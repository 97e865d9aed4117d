# ruff: noqa: SLF001 - what is mended here has no public name
"""grpc.aio's server without two of its weaknesses, which any peer could use.

- A method's name that is not UTF-8 ends grpc.aio's main loop, and with it the server: it decodes the name of every call
  that has no registered handler. Here such calls never reach that loop: they are answered with UNIMPLEMENTED beside it.
- It asks for one call of a method at a time, and for the next when it was woken for that one: on a busy machine 150 calls a
  second, and who floods a method keeps others from it. Here `CALLS_ASKED_FOR` of each are asked for.

This uses names of grpcio that are not public; its version is pinned, and `tests/rpc/test_limits_http2.py` fails if they go.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import grpc
from grpc._cython import cygrpc
from grpc.aio._server import Server

#: of each method, at once
CALLS_ASKED_FOR = 16


def hardened_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    options: Sequence[tuple[str, Any]],
    max_calls: int,
) -> grpc.aio.Server:
    """Return a server like `grpc.aio.server`, for registered methods."""
    server: Any = Server(None, (), interceptors, options, max_calls, None)  # the stubs have another class
    loop = asyncio.get_running_loop()
    server._server = _Core(loop, None, (), tuple(interceptors), tuple(options), max_calls)
    hardened: grpc.aio.Server = server
    return hardened


class _Core(cygrpc.AioServer):  # type: ignore[misc] # it has no types
    """grpc.aio's core, asked by its main loop for the next call of each method, and for those of unknown ones."""

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        if method is not None:
            return asyncio.get_running_loop().create_task(self._next_call(method))
        # the main loop waits for it in vain, and cancels it at its end
        return asyncio.get_running_loop().create_task(self._refuse_unknown_methods())

    async def _next_call(self, method: bytes) -> Any:  # noqa: ANN401 - it has no types
        asked: deque[asyncio.Task[Any]] = self.__dict__.setdefault("asked", {}).setdefault(method, deque())
        while len(asked) < CALLS_ASKED_FOR:
            task = asyncio.get_running_loop().create_task(self._request_registered_call(method))
            task.add_done_callback(_look)  # at the server's end nobody else does
            asked.append(task)
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in asked if task.done())
        asked.remove(first)
        try:
            return first.result()
        except cygrpc._RequestCallError:
            await _forget(asked)  # the server stops: nobody serves what is still handed out
            raise

    async def _refuse_unknown_methods(self) -> None:
        refusing: set[asyncio.Task[None]] = set()
        while True:
            try:
                call = await self._request_call()
            except cygrpc._RequestCallError:
                await asyncio.Event().wait()  # the server stops
            task = asyncio.get_running_loop().create_task(_refuse(call))
            refusing.add(task)
            task.add_done_callback(refusing.discard)


def _look(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def _forget(asked: deque[asyncio.Task[Any]]) -> None:
    await asyncio.gather(*asked, return_exceptions=True)
    asked.clear()


async def _refuse(call: Any) -> None:  # noqa: ANN401 - it has no types
    context = cygrpc._ServicerContext(call, None, None, asyncio.get_running_loop())
    with suppress(grpc.aio.BaseError):  # it raises when it is done, too
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
