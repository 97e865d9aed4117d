# ruff: noqa: SLF001 - what is mended here has no public name
"""grpc.aio's server without two of its weaknesses, which any peer could use.

- A method's name that is not UTF-8 ends grpc.aio's main loop, and with it the server: it decodes the name of every call
  that has no registered handler. Here such calls never reach that loop: they are answered with UNIMPLEMENTED beside it.
- A stream whose peer reads nothing cannot be ended: its status would wait behind the message that is not taken. Here
  `end_call` drops such a call, by which the stream is reset and the message freed.

Both use names of grpcio that are not public; its version is pinned, and `tests/rpc/test_limits_http2.py` fails if they go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import grpc
from grpc._cython import cygrpc
from grpc.aio._server import Server

T = TypeVar("T")

#: the task that serves a call → the one that keeps it until the peer is done with it
_keepers: WeakKeyDictionary[asyncio.Task[Any], asyncio.Task[Any]] = WeakKeyDictionary()


def hardened_server(
    interceptors: Sequence[grpc.aio.ServerInterceptor],
    options: Sequence[tuple[str, Any]],
    max_calls: int,
) -> grpc.aio.Server:
    """Return a server like `grpc.aio.server`, for registered methods."""
    server: Any = Server(None, (), interceptors, options, max_calls, None)  # the stubs have another class
    loop = _Loop(asyncio.get_running_loop())
    server._server = _Core(loop, None, (), tuple(interceptors), tuple(options), max_calls)
    hardened: grpc.aio.Server = server
    return hardened


def end_call() -> None:
    """Drop the call that this task serves: its stream is reset, whatever waits to be sent is freed.

    This task is cancelled by it at its next wait.
    """
    task = asyncio.current_task()
    assert task is not None
    _drop(task, _keepers.pop(task, None))


def end_call_after(seconds: float) -> None:
    """Drop the call that this task serves if it has not ended by itself by then: its answer is not taken."""
    task = asyncio.current_task()
    keeper = _keepers.get(task) if task is not None else None
    if task is not None and keeper is not None:
        timer = asyncio.get_running_loop().call_later(seconds, _drop, task, keeper)
        keeper.add_done_callback(lambda _: timer.cancel())


def _drop(task: asyncio.Task[Any], keeper: asyncio.Task[Any] | None) -> None:
    if keeper is not None:
        keeper.cancel()
    task.cancel()


class _Loop:
    """The event loop, noting which task keeps the call of which."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the loop has
        return getattr(self._loop, name)

    def create_task(self, coroutine: Coroutine[Any, Any, T], **more: Any) -> asyncio.Task[T]:  # noqa: ANN401
        task = self._loop.create_task(coroutine, **more)
        keeper = asyncio.current_task()
        if keeper is not None:
            _keepers[task] = keeper
        return task


class _Core(cygrpc.AioServer):  # type: ignore[misc] # it has no types
    """grpc.aio's core, asked by its main loop for the next call of each method, and for those of unknown ones."""

    def _make_request_call_future(self, method: bytes | None) -> asyncio.Future[Any]:
        if method is not None:
            future: asyncio.Future[Any] = super()._make_request_call_future(method)
            return future
        # the main loop waits for it in vain, and cancels it at its end
        return asyncio.get_running_loop().create_task(self._refuse_unknown_methods())

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


async def _refuse(call: Any) -> None:  # noqa: ANN401 - it has no types
    context = cygrpc._ServicerContext(call, None, None, asyncio.get_running_loop())
    with suppress(grpc.aio.BaseError):  # it raises when it is done, too
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")
