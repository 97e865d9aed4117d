"""The one interceptor: errors become statuses, log lines know their call, each call is logged once."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias

import grpc
import structlog

from videoprocess_server.rpc.caller import Context
from videoprocess_server.rpc.status import as_catalogued, grpc_status

log = structlog.get_logger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Call: TypeAlias = Callable[[Any, Context], Awaitable[Any]]

#: fields of requests that log lines carry
LOGGED_FIELDS = ("user_id", "session_id", "video_id", "upload_id", "artifact_id")
MAX_LOGGED_CHARACTERS = 64  # of a caller's text


class StatusInterceptor(grpc.aio.ServerInterceptor):
    """Wraps every method of every service."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Return the method's handler, wrapped; None where there is no such method."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _wrap(handler, handler_call_details.method)


def _wrap(handler: Handler, method: str) -> Handler:
    # the stubs know the synchronous shapes only
    behaviour: Any = (
        handler.unary_unary or handler.unary_stream or handler.stream_unary or handler.stream_stream
    )
    call: Any = (
        _streaming(behaviour, method) if handler.response_streaming else _answering_once(behaviour, method)
    )
    make: Any = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }[bool(handler.request_streaming), bool(handler.response_streaming)]
    wrapped: Handler = make(call, handler.request_deserializer, handler.response_serializer)
    return wrapped


def _answering_once(behaviour: Call, method: str) -> Call:
    async def call(request: Any, context: Context) -> Any:  # noqa: ANN401 - any message
        async with _watched(method, request, context):
            return await behaviour(request, context)

    return call


def _streaming(behaviour: Callable[[Any, Context], Any], method: str) -> Call:
    async def call(request: Any, context: Context) -> None:  # noqa: ANN401 - any message
        async with _watched(method, request, context):
            answers = behaviour(request, context)
            if inspect.isawaitable(answers):
                await answers
                return
            # closed here and now, so that a cancelled call gives back what it holds
            async with aclosing(answers):
                async for answer in answers:
                    await context.write(answer)

    return call


@asynccontextmanager
async def _watched(method: str, request: object, context: Context) -> AsyncIterator[None]:
    """Log the call and end it with a status if it raises."""
    structlog.contextvars.bind_contextvars(method=method, **_ids(request))
    begin = time.monotonic()
    try:
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


def _ids(request: object) -> dict[str, Any]:
    found = {name: getattr(request, name, "") for name in LOGGED_FIELDS}
    return {
        name: value[:MAX_LOGGED_CHARACTERS] if isinstance(value, str) else value
        for name, value in found.items()
        if value != "" and isinstance(value, (str, int))
    }
