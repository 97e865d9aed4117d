"""The one interceptor: errors become statuses, log lines know their call, each call is logged once."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from videoprocess_server.rpc.auth.guard import Guard
from videoprocess_server.rpc.caller import Context
from videoprocess_server.rpc.convert.fields import invalid
from videoprocess_server.rpc.status import as_catalogued, grpc_status

log = structlog.get_logger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Call: TypeAlias = Callable[[Any, Context], Awaitable[Any]]
Parse: TypeAlias = Callable[[bytes], Any]
Read: TypeAlias = Callable[[Any], Any]
Enter: TypeAlias = Callable[[Context], AbstractAsyncContextManager[None]]

#: fields of requests that log lines carry
LOGGED_FIELDS = ("user_id", "session_id", "video_id", "upload_id", "artifact_id")
MAX_LOGGED_CHARACTERS = 64  # of a caller's text


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of every service.

    Args:
        guard: lets calls in, before anything of their requests is read.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler, wrapped; None where there is no such method."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _wrap(handler, handler_call_details.method, self._guard)


def _wrap(handler: Handler, method: str, guard: Guard) -> Handler:
    # the stubs know the synchronous shapes only
    behaviour: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    # requests come here as bytes: gRPC would answer what does not parse with UNKNOWN, or break the call in its middle
    parse: Any = handler.request_deserializer
    read: Read = partial(_each_parsed if handler.request_streaming else _parsed, parse)
    answer = _streaming if handler.response_streaming else _answering_once
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    enter = partial(_watched, guard, method)
    wrapped: Handler = make(answer(behaviour, enter, read), None, handler.response_serializer)
    return wrapped


async def _each_parsed(parse: Parse, messages: AsyncIterator[bytes]) -> AsyncIterator[Any]:
    async for message in messages:
        yield _parsed(parse, message)


def _parsed(parse: Parse, message: bytes) -> Any:  # noqa: ANN401 - any message
    try:
        return parse(message)
    except DecodeError as error:
        raise invalid("request", "does not parse, or has text that is not UTF-8") from error


def _answering_once(behaviour: Call, enter: Enter, read: Read) -> Call:
    async def call(message: Any, context: Context) -> Any:  # noqa: ANN401 - bytes, or an iterator of them
        async with enter(context):
            return await behaviour(_named(read(message)), context)

    return call


def _streaming(behaviour: Callable[[Any, Context], Any], enter: Enter, read: Read) -> Call:
    async def call(message: Any, context: Context) -> None:  # noqa: ANN401 - bytes, or an iterator of them
        async with enter(context):
            answers = behaviour(_named(read(message)), context)
            if inspect.isawaitable(answers):
                await answers
                return
            # closed here and now, so that a cancelled call gives back what it holds
            async with aclosing(answers):
                async for answer in answers:
                    await context.write(answer)

    return call


@asynccontextmanager
async def _watched(guard: Guard, method: str, context: Context) -> AsyncIterator[None]:
    """Let the call in, log it, and end it with a status if it raises."""
    structlog.contextvars.bind_contextvars(method=method)
    begin = time.monotonic()
    try:
        async with guard.entered(method, context):
            yield
    except asyncio.CancelledError:
        log.debug("rpc", code="CANCELLED", seconds=round(time.monotonic() - begin, 6))
        raise
    except grpc.aio.BaseError as error:
        # somebody aborted already, or the peer is gone
        log.info("rpc", code="ENDED", error=type(error).__name__, seconds=round(time.monotonic() - begin, 6))
        raise
    except Exception as error:
        known = as_catalogued(error)
        if known.reason == "INTERNAL":
            log.exception("rpc_broke")
        seconds = round(time.monotonic() - begin, 6)
        log.info(
            "rpc",
            code=known.row.status.name,
            reason=known.reason,
            message=known.message[:200],
            seconds=seconds,
        )
        await context.abort_with_status(grpc_status(known))
    else:
        log.debug("rpc", code="OK", seconds=round(time.monotonic() - begin, 6))


def _named(request: Any) -> Any:  # noqa: ANN401 - any message, or an iterator of them
    """Name what a request is about in the call's log lines; return the request."""
    found = {name: getattr(request, name, "") for name in LOGGED_FIELDS}
    structlog.contextvars.bind_contextvars(
        **{
            name: value[:MAX_LOGGED_CHARACTERS] if isinstance(value, str) else value
            for name, value in found.items()
            if value != "" and isinstance(value, (str, int))
        }
    )
    return request
